"""balanced: the other three together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies import dimensionality, information, variance
from spinlock_dist.compression.strategies.strategy import Ratios, Strategy, scaled


def published(category: Characteristics) -> Ratios:
    """Spinlock's mean of the three tables, weighted by variance, dimensionality and 1 - information, to 2 decimals."""
    tables = (variance.published(category), dimensionality.published(category), information.published(category))
    weights = (category.variance, category.dimensionality, 1.0 - category.information)
    l0, l1, l2 = (round(float(ratio), 2) for ratio in np.average(tables, axis=0, weights=weights))
    return l0, l1, l2


def need(categories: Sequence[Characteristics]) -> np.ndarray:
    """Mean of the three graded needs, each scaled to [0, 1] across the categories first."""
    needs = (variance.need(categories), dimensionality.need(categories), information.need(categories))
    return np.mean([scaled(each) for each in needs], axis=0)


BALANCED = Strategy(need, published, idea="larger, more varied and less redundant categories")
