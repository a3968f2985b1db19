"""uniform: the same ratios for every category, the baseline of every study."""

from __future__ import annotations

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies.strategy import UNIFORM_RATIOS, Ratios, Strategy


def published(_: Characteristics) -> Ratios:
    """0.5, 1.0, 1.5 whatever the category."""
    return UNIFORM_RATIOS


UNIFORM = Strategy(published=published)
