"""What the trials of a study say, in numbers: where a raw imbalance comes from, what ratios became, what mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from results.records.trial_record import TrialRecord, best_record
from spinlock_dist.compression.rate_distortion import best_imbalance
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import LEVELS, CompressionConfig
from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR, RAW_FLOOR, imbalance
from spinlock_dist.metrics.record import Metrics

if TYPE_CHECKING:
    import optuna

    from search_spaces import SearchSpace

PUBLISHED_RATIOS = ((0.30, 0.33), (0.84, 0.90), (1.90, 2.00))
"""Range over categories of the ratios at L0, L1, L2 in Spinlock's 10,000-sample comparison, `balanced`."""
LEAST_TRIALS = 8
"""Scored trials from which it is worth asking what mattered."""
LEAST_SPREAD = 1e-5
"""Range of log10 scores below which trials scored alike: what is left is rounding, of which no forest can be grown."""
MOST_TRIALS = 100
"""Scored trials that are looked at together: random forests and contours cost far more than they gain with more."""


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """The ratio of the largest to the smallest error of a category, and whose these are."""

    imbalance: float
    worst: str
    best: str


def extremes(errors: Mapping[str, float], floor: float = RAW_FLOOR) -> Extremes:
    """Return the imbalance of errors by category, of any unit."""
    worst, best = max(errors, key=lambda name: errors[name]), min(errors, key=lambda name: errors[name])
    return Extremes(imbalance=imbalance(errors.values(), floor), worst=worst, best=best)


@dataclass(frozen=True, kw_only=True)
class RawSplit:
    """A raw imbalance as the product of two ratios between the same two categories: of their scales and their FVU."""

    raw: Extremes
    scale: float
    """Ratio of raw MSE / FVU: the mean raw variance of the features of each, as far as they were rebuilt."""
    fvu: float

    @property
    def scale_share(self) -> float:
        """Share of log10 of the raw imbalance that scale makes up: above 1 if the FVU points the other way."""
        whole = math.log10(self.raw.imbalance)
        return math.log10(self.scale) / whole if whole else 0.0


def split_raw(metrics: Metrics) -> RawSplit:
    """Return where the raw imbalance of a trial comes from."""
    raw = extremes(metrics.mse_raw)
    fvu = {name: max(value, IMBALANCE_FLOOR) for name, value in metrics.fvu.items()}
    ratio = fvu[raw.worst] / fvu[raw.best]
    return RawSplit(raw=raw, scale=raw.imbalance / ratio, fvu=ratio)


# ---------------------------------------------------------------- capacity


def bits_of(metrics: Metrics) -> dict[str, float]:
    """Return the bits per sample of every category, all its codebooks together."""
    bits = dict.fromkeys(metrics.fvu, 0.0)
    for book in metrics.codebooks:
        bits[book["category"]] += math.log2(book["codes"])
    return bits


def realized_ratios(record: TrialRecord, baseline: TrialRecord) -> np.ndarray | None:
    """Return what the ratios of a trial came to, `[C, L]`, in the order of the categories; None without codebooks.

    Where codes were moved: the uniform ratio times the level's bits / those of the baseline. Where only latent
    dimensions were: the uniform ratio times dims / the baseline's.
    """
    if record.metrics is None or baseline.metrics is None or not record.metrics.codebooks:
        return None
    by_dims = record.params.get("compression.capacity") == "latent"
    ours, theirs = (_sizes(metrics, by_dims) for metrics in (record.metrics, baseline.metrics))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.array(UNIFORM_RATIOS) * ours / theirs)


def _sizes(metrics: Metrics, dims: bool) -> np.ndarray:
    """Return bits, or latent dimensions, of every category and level `[C, L]`: 0 where a level is switched off."""
    place = {name: row for row, name in enumerate(metrics.fvu)}
    sizes = np.zeros((len(place), len(LEVELS)))
    for book in metrics.codebooks:
        level, _, further = book["level"].partition(".")
        at = place[book["category"]], LEVELS.index(level)
        if not dims:
            sizes[at] += math.log2(book["codes"])
        elif not further:
            sizes[at] = book["dim"]
    return sizes


def spread(ratios: np.ndarray) -> float:
    """Return how far ratios `[C, L]` differ between categories: geometric mean over levels of max / min, both > 0."""
    factors = [column[column > 0].max() / column[column > 0].min() for column in ratios.T if (column > 0).any()]
    return float(np.exp(np.mean(np.log(factors)))) if factors else 1.0


def reachable_imbalance(
    characteristics: Mapping[str, Mapping[str, Any]], metrics: Metrics, compression: CompressionConfig, rows: int
) -> float:
    """Return the smallest imbalance of the Gaussian reference at a trial's bits, with the caps of its codebooks."""
    spectra = [each["spectrum"] for each in characteristics.values()]
    codes = max(1, min(compression.max_codes, rows // compression.min_rows_per_code))
    cap = math.log2(codes) * len(LEVELS) * compression.max_codebooks
    return best_imbalance(spectra, metrics.bits_per_sample, cap_bits=cap)


# ---------------------------------------------------------------- what the search learned


@dataclass(frozen=True, kw_only=True)
class StrategyRow:
    """What trials of one strategy came to."""

    strategy: str
    trials: int
    complete: int
    feasible: int
    best: TrialRecord | None
    """Feasible and of lowest imbalance."""
    median_imbalance: float | None
    """Of those that completed."""


def by_strategy(search: Sequence[TrialRecord]) -> list[StrategyRow]:
    """Return a row for each strategy that was tried, the one with the best trial first."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in search:
        groups.setdefault(strategy_of(record), []).append(record)
    rows = []
    for strategy, records in groups.items():
        scores = [each.metrics.imbalance for each in records if each.state == "complete" and each.metrics is not None]
        rows.append(
            StrategyRow(
                strategy=strategy,
                trials=len(records),
                complete=len(scores),
                feasible=sum(record.feasible for record in records),
                best=best_record(records),
                median_imbalance=median(scores) if scores else None,
            )
        )
    return sorted(rows, key=lambda row: (_imbalance(row.best), row.median_imbalance or math.inf))


def strategy_of(record: TrialRecord) -> str:
    """Return the strategy of a trial; empty where the study does not vary it."""
    return str(record.params.get("compression.strategy", ""))


def _imbalance(record: TrialRecord | None) -> float:
    return record.metrics.imbalance if record and record.metrics else math.inf


def scored(search: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that completed with a score."""
    return [record for record in search if record.state == "complete" and record.metrics is not None]


def importances(search: Sequence[TrialRecord], space: SearchSpace) -> dict[str, dict[str, float]]:
    """Return how much each setting mattered for `imbalance` and for `worst` (log10 of the worst FVU), 0 to 1.

    Shares of the variance that a random forest over the completed trials sees (fANOVA: Hutter et al. 2014). Empty if
    there are too few trials; without a score in which all are alike. Settings that count only sometimes are left out.
    """
    study = in_memory(search, space)
    if len(study.trials) < LEAST_TRIALS:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found = {}
    for name, number in (("imbalance", 0), ("worst", 1)):
        if np.ptp([trial.user_attrs["scores"][number] for trial in study.trials]) > LEAST_SPREAD:
            evaluator = FanovaImportanceEvaluator(seed=0, n_trees=16)
            found[name] = get_param_importances(
                study,
                evaluator=evaluator,
                target=lambda trial, number=number: trial.user_attrs["scores"][number],  # type: ignore[misc]
            )
    return found


def in_memory(search: Sequence[TrialRecord], space: SearchSpace) -> optuna.Study:
    """Return completed trials as a study of Optuna's, to ask its analyses: at most `MOST_TRIALS`, evenly chosen.

    Their attribute `scores` is the log10 of imbalance and worst FVU. Trials that are not of this space are left out.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    from results.records.optuna_distributions import distribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    trials = [record for record in scored(search) if set(record.params) <= set(space.parameters)]
    for place in sorted(set(np.linspace(0, len(trials) - 1, MOST_TRIALS).astype(int)) if trials else ()):
        record = trials[place]
        assert record.metrics is not None
        scores = [record.metrics.log10_imbalance, math.log10(max(record.metrics.fvu_worst, IMBALANCE_FLOOR))]
        known = create_trial(
            state=TrialState.COMPLETE,
            value=scores[0],
            params=record.params,
            distributions={name: distribution(space.parameters[name]) for name in record.params},
            user_attrs={"scores": scores},
        )
        study.add_trial(known)
    return study
