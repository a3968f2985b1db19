"""Compression strategies, one a module. A new one is a module here with a `Strategy`, and a line in `STRATEGIES`."""

from typing import cast

from spinlock_dist.compression.strategies.strategy import UNIFORM_RATIOS, Ratios, Strategy
from spinlock_dist.config import STRATEGIES
from spinlock_dist.errors import ConfigError

__all__ = ["STRATEGIES", "UNIFORM_RATIOS", "Ratios", "Strategy", "get_strategy"]


def get_strategy(name: str) -> Strategy:
    """The strategy called `name`. Raises `ConfigError` with the nearest known name."""
    try:
        return cast(Strategy, STRATEGIES[STRATEGIES.check(name)])
    except ConfigError as error:
        raise ConfigError(f"compression.strategy: {error}") from None
