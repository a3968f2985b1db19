"""What a figure would be on ever more rows of the same kind, with an interval, from the rows that there are.

Legend: B resamples, N rows, C categories.
"""

from __future__ import annotations

import numpy as np

from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR
from spinlock_dist.metrics.record import Estimate
from spinlock_dist.metrics.row_errors import RowErrors
from spinlock_dist.metrics.scored import Scored

NORMAL_975 = 1.959964
"""The 97.5% quantile of the normal distribution."""
EXTREMES = 5
"""Categories at either end that `spread` compares."""


def log_figures(sums: RowErrors) -> dict[str, np.ndarray]:
    """The natural log of each figure `[B]`, of sums over rows `[B, C]`.

    `imbalance` is that of the worst category to the best, `spread` that of the mean of the five worst to the mean of
    the five best; `fvu_worst` and `fvu_mean` are errors.
    """
    return _figures_by_order(sums, _order(sums))


def cross_fitted(errors: RowErrors) -> dict[str, float]:
    """The natural log of each figure, free of the luck of who is called worst and best.

    Of C noisy errors the largest is too large and the smallest too small: equal categories seem unequal. What makes
    them so is that the same rows choose the category and measure it. So half of the rows choose it and the other half
    measure it, then the other way round, over B random halves. Of equal categories nothing is left but noise about a
    ratio of 1; a category that is clearly the worst is chosen by either half, and has no bias to begin with. In between
    a half may choose wrongly, and the figure is low by a part of the difference that could not be seen (docs/metrics.md
    has bias and spread of this and of other corrections).
    """
    halves = errors.halved()
    one, other = (_figures_by_order(measuring, _order(choosing)) for choosing, measuring in (halves, reversed(halves)))
    return {name: float((one[name] + other[name]).mean() / 2) for name in one}


def _order(sums: RowErrors) -> np.ndarray:
    """Categories from best to worst `[B, C]`."""
    return np.argsort(_floored_ratio(*sums), axis=1, kind="stable")


def _figures_by_order(sums: RowErrors, order_BC: np.ndarray) -> dict[str, np.ndarray]:
    fvu_BC = np.take_along_axis(_floored_ratio(*sums), order_BC, axis=1)
    ends = min(EXTREMES, max(1, fvu_BC.shape[1] // 2))
    return {
        "imbalance": np.log(fvu_BC[:, -1] / fvu_BC[:, 0]),
        "fvu_worst": np.log(fvu_BC[:, -1]),
        "fvu_mean": np.log(_floored_ratio(*(each.sum(axis=1) for each in sums))),
        "spread": np.log(fvu_BC[:, -ends:].mean(axis=1) / fvu_BC[:, :ends].mean(axis=1)),
    }


def _floored_ratio(errors: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """As in `fraction_unexplained`: what does not vary on these rows is perfect if it is rebuilt exactly."""
    with np.errstate(divide="ignore", invalid="ignore"):
        constant = np.where(np.isfinite(errors), errors > 0, np.nan)
        return np.maximum(np.where(totals == 0, constant, errors / totals), IMBALANCE_FLOOR)


def estimate_metrics(scored: Scored) -> dict[str, object]:
    """`estimates`, and the `resampled` logs that paired comparisons are computed from."""
    resampled = log_figures(scored.resampled)
    return {
        "estimates": estimate_of(scored.row_errors, resampled),
        "resampled": {name: [round(float(value), 5) for value in value_B] for name, value_B in resampled.items()},
    }


def estimate_of(errors: RowErrors, resampled: dict[str, np.ndarray] | None = None) -> dict[str, Estimate]:
    """The estimate of each figure, by name; `resampled` are its logs where they are at hand.

    Intervals are normal in logs, with the standard deviation of the resamples. Where halves may choose wrongly the
    value is low; the figure less the bias that resampling adds on top (Efron & Tibshirani 1993, chapter 10) is high,
    since that bias is too small where categories are alike. The interval reaches as far above the higher of the two as
    below the lower. A ratio of extremes is at least 1.
    """
    sums = RowErrors(*(each.sum(axis=0, keepdims=True) for each in errors))
    measured, values = log_figures(sums), cross_fitted(errors)
    resampled = resampled or log_figures(errors.resampled())
    found = {}
    for name, value in values.items():
        other = 2 * float(measured[name][0]) - float(resampled[name].mean())
        half = NORMAL_975 * float(resampled[name].std(ddof=1))
        ends = np.array([min(value, other) - half, value, max(value, other) + half])
        low, middle, high = np.exp(np.maximum(ends, 0.0 if name in ("imbalance", "spread") else -np.inf))
        found[name] = Estimate(value=float(middle), low=float(low), high=float(high))
    return found
