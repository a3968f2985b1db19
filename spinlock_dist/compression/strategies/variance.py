"""variance: categories whose features vary more get more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies.strategy import Ratios, Strategy


def published(category: Characteristics) -> Ratios:
    """Spinlock's table by variance score, which is clipped at 1 and so picks one row for nearly every category."""
    if category.variance > 0.7:
        return 0.25, 0.75, 2.0
    if category.variance > 0.4:
        return 0.4, 1.0, 1.8
    return 0.5, 1.0, 1.5


def need(categories: Sequence[Characteristics]) -> np.ndarray:
    """log2(1 + median raw variance): unclipped, so that scales from 1e-3 to 1e9 stay apart."""
    return np.log2(1.0 + np.array([category.median_variance for category in categories]))


VARIANCE = Strategy(need, published, idea="categories of larger raw variance")
