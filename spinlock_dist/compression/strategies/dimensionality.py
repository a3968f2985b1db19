"""dimensionality: categories with more features get more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies.strategy import Ratios, Strategy


def published(category: Characteristics) -> Ratios:
    """Spinlock's table by dimensionality score."""
    if category.dimensionality > 0.8:
        return 0.3, 0.8, 1.5
    if category.dimensionality > 0.5:
        return 0.4, 1.0, 1.8
    return 0.5, 1.2, 2.0


def need(categories: Sequence[Characteristics]) -> np.ndarray:
    """log(features + 1), so that over the bounds the ratio is a power of the number of features."""
    return np.log(1.0 + np.array([category.features for category in categories]))


DIMENSIONALITY = Strategy(need, published, idea="categories of more features")
