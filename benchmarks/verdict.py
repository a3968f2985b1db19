"""How often a verdict errs, and what it says of cases whose truth is known: simulated studies, `judge` as it is.

    python benchmarks/verdict.py [--studies 200] [--rows 600]

A model of variance stands for training and scoring. Rows are hard or easy for all arms, with tails as heavy as those of
operators (kurtosis of a category's errors from 4 to several hundred), and in part for one config alone. Training rows
move each category's error, in common for all folds and fold by fold; seeds move it training by training. The scenarios
say which of these dominates. Test metrics come from row errors through the code that studies use.

Every study has three finalists: one that differs from the baseline in its ratios alone, one with training settings of
its own and so with a control, and a uniform one. In the first two cases they are equal to the baseline in the
population; whatever is then said but *no difference shown* of any of them is an error, in at most 5% of studies.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from results.records.trial_record import BASELINE, TrialRecord
from results.verdict.finding import Finding
from results.verdict.verdict import Terms, judge
from spinlock_dist.metrics.estimates import log_figures
from spinlock_dist.metrics.row_errors import RowErrors
from study.config import FinalsConfig

CATEGORIES, FOLDS = 25, 3
LAST = FinalsConfig().replicates
CONTROLS = {"trial-1": BASELINE, "trial-2": "control-2", "trial-3": "trial-3"}
"""The finalists of a study, and their controls."""
UNIFORM = (BASELINE, "control-2", "trial-3")
EQUAL = "no difference shown"


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a category's log error, independent from arm to arm."""

    rows: float
    """Of a row's own ease for one config."""
    training: float
    """From the training rows: half of this variance in common for all folds, half fold by fold."""
    seeds: float


SCENARIOS = {
    "rows": Noise(rows=0.6, training=0.01, seeds=0.01),
    "seeds": Noise(rows=0.3, training=0.01, seeds=0.1),
    "training rows": Noise(rows=0.3, training=0.05, seeds=0.05),
}


def levels_of(case: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The true FVU `[C]` of each arm."""
    base = np.sort(np.exp(rng.normal(math.log(0.07), 0.5, CATEGORIES)))
    base[-1], base[0] = 0.16, 0.02  # the same spread in every study: uniform ratios on operators have about this one
    levels = dict.fromkeys((*UNIFORM, *CONTROLS), base)
    if case == "equal in the population":
        return levels | {arm: rng.permutation(base) for arm in ("trial-1", "trial-2")}
    if case == "better":
        even = 0.45 * math.log(0.07) + 0.55 * np.log(base)
        even = 0.93 * np.exp(even) * base.mean() / np.exp(even).mean()
        return levels | dict.fromkeys(("trial-1", "trial-2"), even)
    if case == "only a learning rate differs":
        even = 0.9 * np.exp(0.3 * math.log(0.07) + 0.7 * np.log(base))
        return levels | dict.fromkeys(("trial-2", "control-2", "trial-3"), even)
    if case == "levels down":
        return levels | {arm: np.maximum(base, 0.1) for arm in ("trial-1", "trial-2")}
    if case == "collapses":
        return levels | {arm: np.full(CATEGORIES, 0.985) for arm in ("trial-1", "trial-2")}
    if case == "hopeless category":
        hopeless = np.append(base[:-1], 0.985)
        moved = np.append(1.4 * base[:-1], 0.98)  # bits went to it in vain
        return dict.fromkeys(levels, hopeless) | dict.fromkeys(("trial-1", "trial-2"), moved)
    return levels


RIGHT = {
    "better": {"trial-1": "better", "trial-2": "better", "trial-3": EQUAL},
    "only a learning rate differs": {"trial-1": EQUAL, "trial-2": EQUAL, "trial-3": EQUAL},
    "levels down": {"trial-1": "more even, but worse", "trial-2": "more even, but worse", "trial-3": EQUAL},
    "collapses": {"trial-1": "worse", "trial-2": "worse", "trial-3": EQUAL},
    "hopeless category": {"trial-1": "more even, but worse", "trial-2": "more even, but worse", "trial-3": EQUAL},
}


def simulated(case: str, noise: Noise, rows: int, replicates: int, rng: np.random.Generator) -> list[TrialRecord]:
    """The finals of one study."""
    tails_C = rng.permutation(np.linspace(0.3, 1.2, CATEGORIES))
    hard_NC, size_NC = (_positive(rng, rows, 0.7 * tails_C) for _ in range(2))
    totals_NC = hard_NC * size_NC
    ease_NC = rng.normal(size=(rows, CATEGORIES)) * 0.5 * tails_C
    records = []
    for arm, level_C in levels_of(case, rng).items():
        own_NC = ease_NC + rng.normal(0, noise.rows, (rows, CATEGORIES))
        half = noise.training / math.sqrt(2)
        common_C, fold_KC = rng.normal(0, half, CATEGORIES), rng.normal(0, half, (FOLDS, CATEGORIES))
        for number in range(replicates):
            shift_C = common_C + fold_KC[number % FOLDS] + rng.normal(0, noise.seeds, CATEGORIES)
            # What is hardly encoded has an error of hardly less than the row's own square, whatever encodes it.
            left_NC = (1 - level_C) * (own_NC + rng.normal(0, 0.15, (rows, CATEGORIES)))
            spread_C = (1 - level_C) * np.sqrt((0.5 * tails_C) ** 2 + noise.rows**2 + 0.15**2)
            fvu_C = level_C * np.exp((1 - level_C) * shift_C)
            errors_NC = totals_NC * np.exp(left_NC - spread_C**2 / 2) * fvu_C
            kind = "collapsed codebook" if level_C.max() >= 0.98 else ""
            records.append(record_of(arm, number, RowErrors(errors_NC, totals_NC), kind))
    return records


def _positive(rng: np.random.Generator, rows: int, spread_C: np.ndarray) -> np.ndarray:
    """Log-normal factors `[N, C]` of mean 1."""
    return np.exp(rng.normal(size=(rows, len(spread_C))) * spread_C - spread_C**2 / 2)


def record_of(arm: str, number: int, errors: RowErrors, kind: str = "") -> TrialRecord:
    """A final record whose test metrics are those of the row errors."""
    measured = log_figures(RowErrors(*(each.sum(axis=0, keepdims=True) for each in errors)))
    figures = {name: math.exp(value_B[0]) for name, value_B in measured.items()}
    test: Any = SimpleNamespace(**figures, resampled=log_figures(errors.resampled()))
    return TrialRecord(phase="final", arm=arm, number=number, state="complete", seed=number, test=test, kind=kind)


def terms(last: int = LAST, controls: Mapping[str, str] = CONTROLS) -> Terms:
    """Those of a study with the default split: 0.3 of the rows test, two thirds of the others train."""
    return Terms(controls=controls, overlap=0.3 / (0.7 * 2 / 3), first=3, last=last)


def said(studies: int, study: Callable[[np.random.Generator], list[TrialRecord]], given: Terms) -> list[list[Finding]]:
    """What is found in each of many studies, each with a generator of its own."""
    return [list(judge(study(np.random.default_rng(seed)), given).findings) for seed in range(studies)]


def share_in_error(found: list[list[Finding]]) -> float:
    """Of studies of finalists that are equal to the baseline, the share that says anything of one."""
    return float(np.mean([any(each.verdict != EQUAL for each in findings) for findings in found]))


def main() -> None:
    """Print a table of error rates, and one of words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--rows", type=int, default=600)
    args = parser.parse_args()
    for case in ("the same config", "equal in the population"):
        for name, noise in SCENARIOS.items():
            found = said(args.studies, lambda rng, c=case, n=noise: simulated(c, n, args.rows, LAST, rng), terms())  # type: ignore[misc]
            words = Counter(each.verdict for findings in found for each in findings if each.verdict != EQUAL)
            print(f"{case:26s} {name:14s} in error: {share_in_error(found):.1%} of studies  {dict(words)}", flush=True)
    for case, right in RIGHT.items():
        for name, noise in SCENARIOS.items():
            found = said(args.studies // 5, lambda rng, c=case, n=noise: simulated(c, n, args.rows, LAST, rng), terms())  # type: ignore[misc]
            told = {
                arm: Counter(each.verdict for findings in found for each in findings if each.arm == arm)
                for arm in right
            }
            shares = "  ".join(f"{arm} {word}: {told[arm][word] / len(found):.0%}" for arm, word in right.items())
            spent = np.mean([each.replicates for findings in found for each in findings])
            print(f"{case:28s} {name:14s} {shares}  replicates {spent:.1f}", flush=True)


if __name__ == "__main__":
    main()
