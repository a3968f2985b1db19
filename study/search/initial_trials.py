"""The initial trials, which run before the sampler suggests any."""

from __future__ import annotations

from typing import Any

from results.records.settings import RULE, STRATEGY
from search_spaces import Categorical, SearchSpace
from search_spaces.space import setting_of
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig
from spinlock_dist.live_settings import UNIFORM


def initial_points(space: SearchSpace, base: TrialConfig) -> list[dict[str, Any]]:
    """The initial trials as partial points, uniform ratios first, then whatever takes longest.

    One for each strategy of the space, under its published rule if it has one and the space offers that; else one.
    Other settings are those of `base`, where the space contains them; the sampler fills in the rest. A strategy that
    measures the data takes longest and is likely best: begun last, it would end when the sampler had suggested most
    trials without knowing of it.
    """
    strategies = space.parameters.get(STRATEGY)
    choices = strategies.choices if isinstance(strategies, Categorical) else ()
    known = [str(choice) for choice in choices]
    points = [_point(space, base, _published(strategy)) for strategy in sorted(known, key=_turn)]
    return points or [_point(space, base, {})]


def _turn(strategy: str) -> tuple[bool, bool]:
    """Sorts uniform ratios first, then strategies that measure the data; the others stay as the space has them."""
    return strategy != UNIFORM, STRATEGIES[strategy].measured is None


def _published(strategy: str) -> dict[str, Any]:
    return {STRATEGY: strategy, **({RULE: "spinlock"} if STRATEGIES[strategy].has_rule else {})}


def _point(space: SearchSpace, base: TrialConfig, given: dict[str, Any]) -> dict[str, Any]:
    """`given`, and `base` for other parameters, where the space contains their values."""
    config = space.to_config(base, {})
    values: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        candidates = [given[name]] if name in given else []
        candidates.append(setting_of(config, name))
        fitting = [value for value in candidates if parameter.contains(value)]
        if fitting and space.counts(name, values):
            values[name] = fitting[0]
    return values
