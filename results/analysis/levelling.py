"""The levelling-down meter: whether a lower imbalance came from helping the worst category or from hurting the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR
from spinlock_dist.metrics.record import Metrics


@dataclass(frozen=True, kw_only=True)
class Levelling:
    """Where a change of imbalance came from: d log10 imbalance = d log10 worst - d log10 best FVU.

    Both parts are gains in log10 imbalance against the baseline, positive when they lower it.
    """

    worst_helped: float
    """From the worst category improving (negative: it got worse)."""
    best_hurt: float
    """From the best category getting worse: levelling down (negative: it improved)."""


def levelling(metrics: Metrics, baseline: Metrics) -> Levelling:
    """How much of the gain in imbalance comes from helping the worst category and from hurting the best."""
    return Levelling(
        worst_helped=math.log10(worst_fvu(baseline)) - math.log10(worst_fvu(metrics)),
        best_hurt=math.log10(best_fvu(metrics)) - math.log10(best_fvu(baseline)),
    )


def worst_fvu(metrics: Metrics) -> float:
    """The largest FVU of a category, floored as in the imbalance."""
    return max(metrics.fvu_worst, IMBALANCE_FLOOR)


def best_fvu(metrics: Metrics) -> float:
    """The smallest FVU of a category, floored likewise: imbalance = worst_fvu / best_fvu."""
    return max(min(metrics.fvu.values()), IMBALANCE_FLOOR)
