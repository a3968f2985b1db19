"""information: categories that few components do not explain get more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies.strategy import Ratios, Strategy


def redundancy(category: Characteristics) -> float:
    """The mean of information and correlation score: 1 when one component explains the category."""
    return (category.information + category.correlation) / 2


def published(category: Characteristics) -> Ratios:
    """Spinlock's table by redundancy."""
    if redundancy(category) > 0.7:
        return 0.3, 0.7, 1.2
    if redundancy(category) > 0.4:
        return 0.5, 1.0, 1.5
    return 0.6, 1.5, 2.5


def need(categories: Sequence[Characteristics]) -> np.ndarray:
    """1 - redundancy."""
    return np.array([1.0 - redundancy(category) for category in categories])


INFORMATION = Strategy(need, published, idea="categories that few components do not explain")
