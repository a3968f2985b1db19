"""Compression strategies. A new one is a module here with a `Strategy`, and a line in `STRATEGIES`."""

from spinlock_dist.compression.strategies.strategy import UNIFORM_RATIOS, Ratios, Strategy
from spinlock_dist.errors import ConfigError
from spinlock_dist.registry import Registry

__all__ = ["STRATEGIES", "UNIFORM_RATIOS", "Ratios", "Strategy", "get_strategy"]

STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    {
        "uniform": "spinlock_dist.compression.strategies.uniform:UNIFORM",
        "variance": "spinlock_dist.compression.strategies.variance:VARIANCE",
        "dimensionality": "spinlock_dist.compression.strategies.dimensionality:DIMENSIONALITY",
        "information": "spinlock_dist.compression.strategies.information:INFORMATION",
        "balanced": "spinlock_dist.compression.strategies.balanced:BALANCED",
        "waterfill": "spinlock_dist.compression.strategies.waterfill:WATERFILL",
        "feedback": "spinlock_dist.compression.strategies.feedback:FEEDBACK",
    },
)


def get_strategy(name: str) -> Strategy:
    """The strategy called `name`. Raises `ConfigError` with the nearest known name."""
    try:
        return STRATEGIES[STRATEGIES.check(name)]
    except ConfigError as error:
        raise ConfigError(f"compression.strategy: {error}") from None
