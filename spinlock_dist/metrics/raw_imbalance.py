"""The raw imbalance taken apart into scale and error: one definition, for the report of a study and for a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10

from spinlock_dist.metrics.reconstruction import RAW_FLOOR


@dataclass(frozen=True, kw_only=True)
class RawImbalance:
    """The ratio of the largest to the smallest raw error, taken apart.

    As mse_raw = variance_raw x fvu_raw in every category, `log10_imbalance = log10_scale + log10_fvu` exactly,
    whatever the normalization.
    """

    worst: str
    """Category with the largest mse_raw."""
    best: str
    """Category with the smallest mse_raw."""
    log10_imbalance: float
    log10_scale: float
    """log10 of the ratio of variance_raw, worst over best."""
    log10_fvu: float
    """log10 of the ratio of fvu_raw, worst over best."""
    scale_share: float
    """log10_scale / log10_imbalance; above 1 if fvu_raw works against it, 0 if there is no imbalance."""


def split_raw_imbalance(mse_raw: Mapping[str, float], variance_raw: Mapping[str, float]) -> RawImbalance:
    """How much of the raw imbalance between the worst and the best category is scale and how much error.

    `mse_raw` and `variance_raw`, the mean over a category's features of their variance, are by category, in squared
    raw units.
    """
    worst, best = max(mse_raw, key=lambda name: mse_raw[name]), min(mse_raw, key=lambda name: mse_raw[name])

    def log_ratio(values: Mapping[str, float]) -> float:
        return log10(max(values[worst], RAW_FLOOR) / max(values[best], RAW_FLOOR))

    total, scale = log_ratio(mse_raw), log_ratio(variance_raw)
    return RawImbalance(
        worst=worst,
        best=best,
        log10_imbalance=total,
        log10_scale=scale,
        log10_fvu=total - scale,
        scale_share=scale / total if total > 0 else 0.0,
    )
