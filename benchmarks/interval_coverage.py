"""Whether the intervals of finals hold what is true of operators that nobody has seen.

    make bench NAME=interval_coverage                      20 studies of 1,500 operators, truth on 5,000: minutes
    make bench NAME=interval_coverage ARGS="--studies 40"

A study here is its finals: `feedback` and uniform ratios at the default training, three replicates as in
`study.phases.finals`, on a simulation of its own. Their intervals come from the test rows; the truth is the ratio
of the same models' figures on fresh operators of another seed, which no study contains. Reported is how many of the 95%
intervals hold it, for imbalance, worst and mean error. At least 90% are wanted.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import tell_machine

from results.verdict.contrasts import FIGURES, contrast
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial
from spinlock_dist.simulator import generate_dataset

ARMS = ("uniform", "feedback")
CONFIDENCE = 0.95


def simulated(path: Path, operators: int, seed: int) -> PrepareConfig:
    """A config of simulated operators, written to `path`."""
    config = PrepareConfig().simulator.model_copy(update={"samples": operators, "seed": seed})
    generate_dataset(config, path)
    return PrepareConfig(dataset=str(path))


def with_fresh_rows(data: PreparedData, fresh: PrepareConfig) -> PreparedData:
    """The same training and validation rows, with fresh ones for test rows."""
    more_ND = data.pipeline.transform(load_table(fresh))
    rows = np.arange(len(data.values), len(data.values) + len(more_ND))
    return replace(data, values=np.concatenate([data.values, more_ND]), split=replace(data.split, test=rows))


def one_study(own: PrepareConfig, fresh: PrepareConfig, replicates: int) -> dict[str, tuple[float, float, float]]:
    """The true ratio of each figure, and the interval that the study gives for it."""
    data = prepare(own)
    ours: dict[str, dict[int, Metrics]] = {arm: {} for arm in ARMS}
    true: dict[str, dict[int, Metrics]] = {arm: {} for arm in ARMS}
    for number in range(replicates):
        fold = data.fold(number % len(data.split.folds))
        for arm in ARMS:
            config = TrialConfig(seed=1 + number).with_overrides({"compression.strategy": arm})
            outcome = run_trial(config, fold)
            ours[arm][number] = outcome.evaluate("test")
            true[arm][number] = replace(outcome, data=with_fresh_rows(fold, fresh)).evaluate("test")
    uniform, other = ARMS
    split = own.split
    overlap = split.test / (1 - split.test - split.validation_share)
    found = {}
    for figure in FIGURES:
        known = contrast(ours[other], ours[uniform], figure, overlap)
        truth = contrast(true[other], true[uniform], figure, 0.0)
        assert known is not None and truth is not None
        effect = known.effect(CONFIDENCE)
        found[figure] = (math.exp(truth.log_ratio), effect.low, effect.high)
    return found


def main() -> None:
    """Print a line a study, and how many intervals hold the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--operators", type=int, default=1500, help="of a study")
    parser.add_argument("--fresh", type=int, default=5000, help="operators that tell the truth")
    parser.add_argument("--replicates", type=int, default=3)
    given = parser.parse_args()
    tell_machine()
    held = dict.fromkeys(FIGURES, 0)
    with tempfile.TemporaryDirectory() as folder:
        fresh = simulated(Path(folder) / "fresh.h5", given.fresh, seed=10_000)
        for study in range(given.studies):
            path = Path(folder) / f"{study}.h5"
            found = one_study(simulated(path, given.operators, seed=study + 1), fresh, given.replicates)
            path.unlink()
            told = []
            for figure, (truth, low, high) in found.items():
                held[figure] += low <= truth <= high
                told.append(f"{figure} {truth:.2f} ({low:.2f} to {high:.2f})")
            print(f"study {study + 1:2d}: {'  '.join(told)}", flush=True)
    for figure, count in held.items():
        print(f"{figure}: {count} of {given.studies} intervals hold the truth")


if __name__ == "__main__":
    main()
