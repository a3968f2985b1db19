"""What a trial's ratios bought: bits, ratios as they came out, how far they spread, what balance they allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from results.records.settings import CAPACITY, TrialSettings
from results.records.trial_record import TrialRecord
from spinlock_dist.compression.capacity import most_codes
from spinlock_dist.compression.rate_distortion import best_imbalance
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import LEVELS, CompressionConfig
from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR
from spinlock_dist.metrics.record import Metrics

PUBLISHED_RATIOS = ((0.30, 0.33), (0.84, 0.90), (1.90, 2.00))
"""Range over categories of the ratios at L0, L1, L2 under `balanced` in Spinlock's 10,000-sample comparison."""

LIMIT_SHARE = 0.02
"""By how much sizes may fall short of the most and still be at it: codes are whole numbers."""


def bits_of(metrics: Metrics) -> dict[str, float]:
    """Bits per sample of every category, over all its codebooks."""
    bits = dict.fromkeys(metrics.fvu, 0.0)
    for book in metrics.codebooks:
        bits[book["category"]] += math.log2(book["codes"])
    return bits


def realized_ratios(record: TrialRecord, baseline: TrialRecord, settings: TrialSettings) -> np.ndarray | None:
    """What the ratios of a trial came to, `[C, L]`, in the order of the categories; None without codebooks.

    Where codes were moved: the uniform ratio times the level's bits / those of the baseline. Where only latent
    dimensions were: the uniform ratio times dims / the baseline's.
    """
    if record.metrics is None or baseline.metrics is None or not record.metrics.codebooks:
        return None
    by_dims = settings.value(record, CAPACITY) == "latent"
    ours, theirs = (_sizes(metrics, by_dims) for metrics in (record.metrics, baseline.metrics))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.array(UNIFORM_RATIOS) * ours / theirs)


def _sizes(metrics: Metrics, dims: bool) -> np.ndarray:
    """Bits, or latent dimensions, of every category and level `[C, L]`: 0 where a level is switched off."""
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
    """How far ratios `[C, L]` differ between categories: max / min of those above 0, geometric mean over levels."""
    factors = [column[column > 0].max() / column[column > 0].min() for column in ratios.T if (column > 0).any()]
    return float(np.exp(np.mean(np.log(factors)))) if factors else 1.0


def reachable_imbalance(
    characteristics: Mapping[str, Mapping[str, Any]], metrics: Metrics, compression: CompressionConfig, rows: int
) -> float:
    """The lowest imbalance that the Gaussian reference allows at a trial's bits and codebook caps."""
    spectra = [each["spectrum"] for each in characteristics.values()]
    return best_imbalance(spectra, metrics.bits_per_sample, cap_bits=most_bits(compression, rows))


def most_bits(compression: CompressionConfig, rows: int) -> float:
    """What a category holds in all its codebooks, each with as many codes as `rows` training rows support."""
    return math.log2(most_codes(compression, rows)) * len(LEVELS) * compression.max_codebooks


@dataclass(frozen=True, kw_only=True)
class AtLimit:
    """Categories that an allocation can take no further, and what they cost."""

    least: list[str]
    """Of a bit or less, which can give none away."""
    most: list[str]
    """With every codebook as large as can be, which can take none."""
    imbalance_without: float
    """Of the other categories."""


def at_limit(metrics: Metrics, compression: CompressionConfig, rows: int) -> AtLimit | None:
    """Which categories of a trial hold as few bits as can be and err less than the rest, or as many and err more.

    A category at a limit that errs like the others costs nothing and is not among them. None if there is none.
    """
    bits, most = bits_of(metrics), most_bits(compression, rows) * (1 - LIMIT_SHARE)
    free = [fvu for name, fvu in metrics.fvu.items() if 1 < bits[name] < most]
    if not free:
        return None
    best, worst = min(free), max(free)
    at_least = [name for name, fvu in metrics.fvu.items() if bits[name] <= 1 and fvu < best]
    at_most = [name for name, fvu in metrics.fvu.items() if bits[name] >= most and fvu > worst]
    if not at_least and not at_most:
        return None
    return AtLimit(least=at_least, most=at_most, imbalance_without=worst / max(best, IMBALANCE_FLOOR))
