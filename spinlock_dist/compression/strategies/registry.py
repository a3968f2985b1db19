"""What a strategy is, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.errors import ConfigError, did_you_mean

Ratios = tuple[float, float, float]
"""Compression ratios of L0, L1, L2."""

UNIFORM_RATIOS: Ratios = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Strategy:
    """How the characteristics of all categories become capacity; a strategy says one of these.

    `need`: scores `[C]` >= 0, more need meaning more capacity; they are spread over the configured bounds. Beside it,
    or alone, `published`: the ratios that Spinlock published for the same idea, used under the rule `spinlock`.
    `factor`: multiples `[C]` of the uniform capacity, which mean what they say: the configured bounds only limit them.
    `measured`: characteristics do not tell it enough, it trains pilots.
    """

    name: str
    need: Callable[[Sequence[Characteristics]], np.ndarray] | None = None
    published: Callable[[Characteristics], Ratios] | None = None
    factor: Callable[[Sequence[Characteristics]], np.ndarray] | None = None
    measured: bool = False

    @property
    def has_rule(self) -> bool:
        """Whether `compression.rule` makes a difference: a need and a published rule to choose between."""
        return self.need is not None and self.published is not None


STRATEGIES: dict[str, Strategy] = {}


def register(strategy: Strategy) -> Strategy:
    """Make a strategy known under its name, to configs and search spaces alike."""
    STRATEGIES[strategy.name] = strategy
    return strategy


def get_strategy(name: str) -> Strategy:
    """Return the strategy called `name`. Raises `ConfigError` with the nearest known name."""
    if name not in STRATEGIES:
        raise ConfigError(f"compression.strategy: unknown strategy '{name}'{did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name]


def scaled(needs: np.ndarray) -> np.ndarray:
    """Scale needs `[C]` to [0, 1] across categories; 0.5 everywhere if all are equal."""
    low, high = float(needs.min()), float(needs.max())
    if high - low <= 1e-12 * max(1.0, abs(high)):
        return np.full(len(needs), 0.5)
    return (needs - low) / (high - low)
