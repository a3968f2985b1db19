"""given: ratios that the config states, for all categories alike or for each by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies.strategy import Strategy
from spinlock_dist.config import CompressionConfig
from spinlock_dist.errors import ConfigError


def stated(config: CompressionConfig, categories: Sequence[Characteristics]) -> np.ndarray:
    """The ratios `[C, L]` of `compression.given`. Raises `ConfigError` unless its names are those of the categories."""
    if not isinstance(config.given, dict):
        return np.tile(np.array(config.given, dtype=float), (len(categories), 1))
    names = [category.name for category in categories]
    absent, unknown = sorted({*names} - {*config.given}), sorted({*config.given} - {*names})
    if absent or unknown:
        told = [f"gives none for {_listed(absent)}"] * bool(absent)
        told += [f"names {_listed(unknown)}, which the data has not"] * bool(unknown)
        raise ConfigError(
            f"compression.given {' and '.join(told)}; ratios by name need the categories they were made for: name "
            "their file in prepare.categories.mapping"
        )
    return np.array([config.given[name] for name in names], dtype=float)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


GIVEN = Strategy(stated=stated, looks_up=("compression.given",), idea="the categories that the config names")
