"""The levelling-down meter: whether a lower imbalance came from helping the worst category or from hurting the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinlock_dist.metrics.record import Metrics


@dataclass(frozen=True, kw_only=True)
class Levelling:
    """Where a change of imbalance came from: d log10 imbalance = d log10 worst - d log10 best FVU.

    Both parts are gains in log10 imbalance against the baseline, positive when they lower it.
    """

    worst_helped: float
    """By the worst category getting better (negative: it got worse)."""
    best_hurt: float
    """By the best category getting worse: levelling down (negative: it got better)."""


def levelling(metrics: Metrics, baseline: Metrics) -> Levelling:
    """Return how much of a gain in imbalance helped the worst category and how much hurt the best."""
    return Levelling(
        worst_helped=math.log10(baseline.fvu_worst) - math.log10(metrics.fvu_worst),
        best_hurt=math.log10(_best_fvu(metrics)) - math.log10(_best_fvu(baseline)),
    )


def _best_fvu(metrics: Metrics) -> float:
    return max(min(metrics.fvu.values()), 1e-6)  # the same floor as in the imbalance
