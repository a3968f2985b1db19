"""Reconstruction metrics: per-category errors, their imbalance and inequality. Exact in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from spinlock_dist.categories.category import Category
from spinlock_dist.metrics.row_errors import RowErrors
from spinlock_dist.metrics.scored import Scored

IMBALANCE_FLOOR = 1e-6
"""A best category below this FVU counts as this, so that a perfect one does not make the ratio infinite."""
RAW_FLOOR = 1e-30
"""Raw errors have no natural scale: their imbalance is floored only against division by zero."""
COLLAPSED_FVU = 0.98


def fraction_unexplained(
    target_ND: np.ndarray, output_ND: np.ndarray, train_mean_D: np.ndarray, columns: Sequence[int]
) -> float:
    """Squared error / squares about the training mean over some columns: 0 perfect, 1 = the training mean.

    Columns that do not vary on these rows count as perfect if rebuilt exactly and as unexplained otherwise. NaN if
    something in them is not finite.
    """
    index = list(columns)
    target = np.asarray(target_ND, dtype=np.float64)[:, index]
    error = float(np.square(target - np.asarray(output_ND, dtype=np.float64)[:, index]).sum())
    total = float(np.square(target - np.asarray(train_mean_D, dtype=np.float64)[index]).sum())
    if not np.isfinite(error + total):
        return float("nan")
    if total == 0:
        return 0.0 if error == 0 else 1.0
    return error / total


def fvu_by_category(
    target_ND: np.ndarray, output_ND: np.ndarray, train_mean_D: np.ndarray, categories: Sequence[Category]
) -> dict[str, float]:
    """`fraction_unexplained` of every category, by name."""
    return {
        category.name: fraction_unexplained(target_ND, output_ND, train_mean_D, category.columns)
        for category in categories
    }


def mse_by_category(target_ND: np.ndarray, output_ND: np.ndarray, categories: Sequence[Category]) -> dict[str, float]:
    """The mean squared error per feature, averaged over each category's features, by name."""
    squares_D = np.square(np.asarray(target_ND, np.float64) - np.asarray(output_ND, np.float64)).mean(axis=0)
    return {category.name: float(squares_D[list(category.columns)].mean()) for category in categories}


def imbalance(errors: Iterable[float], floor: float = IMBALANCE_FLOOR) -> float:
    """Max / max(min, floor), at least 1; NaN if an error is not finite."""
    values = list(errors)
    if not np.isfinite(values).all():
        return float("nan")
    return max(1.0, max(values) / max(min(values), floor))


def imbalance_by_chance(errors: RowErrors, resampled: RowErrors) -> float:
    """The median imbalance that rows like these would show if all categories were equally well rebuilt.

    How each category's log FVU strays from its own value when rows are resampled is what few rows and heavy tails do to
    it, whatever the truth. An imbalance of this size shows no difference between the categories. Those that are rebuilt
    exactly, or do not vary on these rows, are left out.
    """
    errors_C, totals_C = errors.errors_NC.sum(axis=0), errors.totals_NC.sum(axis=0)
    if not np.isfinite(errors_C + totals_C).all():
        return float("nan")
    varied_C = (errors_C > 0) & (totals_C > 0)
    if not varied_C.any():
        return 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_fvu_RC = np.log(resampled.errors_NC[:, varied_C]) - np.log(resampled.totals_NC[:, varied_C])
    log_fvu_RC = log_fvu_RC[np.isfinite(log_fvu_RC).all(axis=1)]
    if not len(log_fvu_RC):
        return 1.0
    measured_C = np.log(errors_C[varied_C] / totals_C[varied_C])
    return float(np.exp(np.median(np.ptp(log_fvu_RC - measured_C, axis=1))))


def gini(errors: Iterable[float]) -> float:
    """The Gini coefficient of non-negative errors: 0 when all are equal, towards 1 when one has it all."""
    values = np.sort(np.fromiter(errors, dtype=np.float64))
    total = values.sum()
    if not np.isfinite(total):
        return float("nan")
    if total == 0:
        return 0.0
    count = len(values)
    ranks = np.arange(1, count + 1)
    return float(2 * (ranks * values).sum() / (count * total) - (count + 1) / count)


def reconstruction_metrics(scored: Scored) -> dict[str, Any]:
    """Errors of every category, normalized and raw, their mean, worst, imbalance and inequality."""
    target_ND, output_ND, mean_D = scored.target_ND, scored.output_ND, scored.train_mean_D
    fvu = fvu_by_category(target_ND, output_ND, mean_D, scored.categories)
    mse_raw = mse_by_category(scored.raw_target_ND, scored.raw_output_ND, scored.categories)
    worst = max(fvu, key=lambda name: np.inf if np.isnan(fvu[name]) else fvu[name])
    ratio = imbalance(fvu.values())
    return {
        "fvu": fvu,
        "mse_raw": mse_raw,
        "fvu_mean": fraction_unexplained(target_ND, output_ND, mean_D, range(target_ND.shape[1])),
        "fvu_worst": fvu[worst],
        "worst_category": worst,
        "imbalance": ratio,
        "log10_imbalance": float(np.log10(ratio)),
        "imbalance_by_chance": imbalance_by_chance(scored.row_errors, scored.resampled),
        "imbalance_raw": imbalance(mse_raw.values(), RAW_FLOOR),
        "gini": gini(fvu.values()),
        "collapsed": sum(not error < COLLAPSED_FVU for error in fvu.values()),  # one that is not finite is
    }
