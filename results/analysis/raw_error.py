"""Where an imbalance in raw units comes from: the scale of the features, or how well they are reconstructed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR, RAW_FLOOR, imbalance
from spinlock_dist.metrics.record import Metrics


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """The ratio of the largest to the smallest error of a category, and whose these are."""

    imbalance: float
    worst: str
    best: str


def extremes(errors: Mapping[str, float], floor: float = RAW_FLOOR) -> Extremes:
    """The imbalance of errors by category, of any unit."""
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
    """Where the raw imbalance of a trial comes from."""
    raw = extremes(metrics.mse_raw)
    fvu = {name: max(value, IMBALANCE_FLOOR) for name, value in metrics.fvu.items()}
    ratio = fvu[raw.worst] / fvu[raw.best]
    return RawSplit(raw=raw, scale=raw.imbalance / ratio, fvu=ratio)
