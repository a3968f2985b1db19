"""What a strategy is: how characteristics of categories become capacity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.config import CompressionConfig, TrialConfig

Ratios = tuple[float, float, float]
"""Compression ratios of L0, L1, L2."""

UNIFORM_RATIOS: Ratios = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Measured:
    """A strategy's own function of a `TrialConfig` and the `PreparedData` that returns a `CapacityPlan`.

    It is imported when it is called: most that ask for a strategy want to know what it is like.
    """

    target: str
    """`package.module:function`."""

    def plan(self, config: TrialConfig, data: Any) -> Any:
        """The plan for the training rows of `data`."""
        return resolve_name(self.target)(config, data)


@dataclass(frozen=True)
class Strategy:
    """How the characteristics of all categories become capacity; a strategy says one of these.

    `need`: scores `[C]` >= 0, more need meaning more capacity; they are spread over the configured bounds. Beside it,
    or alone, `published`: the ratios that Spinlock published for the same idea, used under the rule `spinlock`.
    `factor`: multiples `[C]` of the uniform capacity, which mean what they say: the configured bounds only limit them.
    `stated`: ratios `[C, L]` that the config itself says.
    `measured`: characteristics do not tell it enough, it measures the data itself.

    Which settings of a config the others depend on, `spinlock_dist.live_settings` says.
    """

    need: Callable[[Sequence[Characteristics]], np.ndarray] | None = None
    published: Callable[[Characteristics], Ratios] | None = None
    factor: Callable[[Sequence[Characteristics]], np.ndarray] | None = None
    stated: Callable[[CompressionConfig, Sequence[Characteristics]], np.ndarray] | None = None
    measured: Measured | None = None
    looks_up: tuple[str, ...] | None = None
    """The settings that `stated` or `measured` takes from the config itself, by dotted name; None: it may be any."""
    idea: str = ""
    """In a few words, for people: which categories get more capacity than under uniform ratios."""

    @property
    def has_rule(self) -> bool:
        """Whether `compression.rule` makes a difference: a need and a published rule to choose between."""
        return self.need is not None and self.published is not None

    def may_look_up(self, name: str) -> bool:
        """Whether it may take the setting `name`, dotted, from the config itself."""
        if self.stated is None and self.measured is None:
            return False
        return self.looks_up is None or name in self.looks_up


def scaled(needs: np.ndarray) -> np.ndarray:
    """Scale needs `[C]` to [0, 1] across categories; 0.5 everywhere if all are equal."""
    low, high = float(needs.min()), float(needs.max())
    if high - low <= 1e-12 * max(1.0, abs(high)):
        return np.full(len(needs), 0.5)
    return (needs - low) / (high - low)
