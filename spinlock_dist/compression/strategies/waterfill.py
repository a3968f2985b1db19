"""waterfill: bits as the Gaussian reference shares them out, so that every category has the same FVU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.rate_distortion import minimax
from spinlock_dist.compression.strategies.strategy import Strategy
from spinlock_dist.compression.uniform_baseline import published_codes

FLOOR_BITS = 1.0
"""Every category keeps one codebook of two codes: it has a token, and the logarithm of its bits is finite."""


def minimax_factor(categories: Sequence[Characteristics]) -> np.ndarray:
    """Bits by `minimax` / bits of the uniform baseline, at the baseline's total.

    All categories then have the same Gaussian FVU. Within the bounds, with `capacity: codes`,
    the plan is the water-filling itself, up to integer codes and caps.
    """
    baseline = _baseline_bits(categories)
    return minimax(_spectra(categories), baseline.sum(), FLOOR_BITS) / baseline


def _spectra(categories: Sequence[Characteristics]) -> list[tuple[float, ...]]:
    return [category.spectrum for category in categories]


def _baseline_bits(categories: Sequence[Characteristics]) -> np.ndarray:
    return np.array([np.log2(published_codes(category.features)).sum() for category in categories])


WATERFILL = Strategy(
    factor=minimax_factor, idea="categories whose correlation spectra leave more error at the same bits"
)
