"""Compression strategies: one module each, registered by name. Add one by adding a module and importing it here."""

from spinlock_dist.compression.strategies import (
    balanced,
    dimensionality,
    feedback,
    information,
    uniform,
    variance,
    waterfill,
)
from spinlock_dist.compression.strategies.registry import STRATEGIES, UNIFORM_RATIOS, Ratios, Strategy, get_strategy

__all__ = [
    "STRATEGIES",
    "UNIFORM_RATIOS",
    "Ratios",
    "Strategy",
    "balanced",
    "dimensionality",
    "feedback",
    "get_strategy",
    "information",
    "uniform",
    "variance",
    "waterfill",
]
