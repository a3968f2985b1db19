"""From needs to ratios: spread over the searched bounds, and widened to a minimum range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies import Strategy, get_strategy
from spinlock_dist.compression.strategies.registry import scaled
from spinlock_dist.config import LEVELS, CompressionConfig
from spinlock_dist.errors import ConfigError

MAX_RATIO = 4.0


def allocate_ratios(config: CompressionConfig, categories: Sequence[Characteristics]) -> np.ndarray:
    """Return the compression ratios `[C, L]` that the configured strategy gives these categories.

    Graded: `u` = needs scaled to [0, 1], sharpened to `u ** sharpness`; `r = low * (high / low) ** u` per level.
    Rule `spinlock`: the published ratios, widened to `min_ratio_range`; a strategy without any stays graded.
    A measured strategy gives the ratios of its start. Raises `ConfigError` for an unknown strategy, or if a level's
    bounds forbid `min_ratio_range`.
    """
    strategy = get_strategy(config.strategy)
    if strategy.measured:
        strategy = _start_of(config)
    if strategy.need is None:
        return _published(strategy, categories)
    pairs = np.array(config.bounds.pairs())
    _check_range(config.min_ratio_range, pairs)
    urgency = scaled(strategy.need(categories)) ** config.sharpness
    if config.rule == "graded" or strategy.published is None:
        low, high = pairs.T
        return low * (high / low) ** urgency[:, None]
    table = _published(strategy, categories)
    return np.stack([widen(ratios, config.min_ratio_range, urgency) for ratios in table.T], axis=1)


def _start_of(config: CompressionConfig) -> Strategy:
    start = get_strategy(config.feedback.start)
    if start.measured:
        raise ConfigError(f"compression.feedback.start: '{start.name}' cannot start from itself; try uniform")
    return start


def _published(strategy: Strategy, categories: Sequence[Characteristics]) -> np.ndarray:
    assert strategy.published is not None, f"strategy {strategy.name} has neither a need nor published ratios"
    return np.array([strategy.published(category) for category in categories], dtype=float)


def _check_range(min_ratio_range: float, pairs: np.ndarray) -> None:
    for level, (low, high) in zip(LEVELS, pairs, strict=True):
        if high / low < min_ratio_range * (1 - 1e-9):
            raise ConfigError(
                f"compression.min_ratio_range {min_ratio_range:g} needs {level} bounds with high / low of at least "
                f"that; {low:g} and {high:g} allow {high / low:.3g}"
            )


def widen(ratios: np.ndarray, min_range: float, urgency: np.ndarray) -> np.ndarray:
    """Stretch one level's ratios `[C]` about their geometric mean until max / min >= `min_range`.

    Ratios that are all equal have no direction of their own; they are spread along `urgency` `[C]`. Where that is
    equal too (one category, say) there is nothing to spread. A ratio that would pass 4 pulls the others down.
    """
    logs = np.log(ratios)
    if np.ptp(logs) >= np.log(min_range):
        return ratios
    direction = logs if np.ptp(logs) > 1e-9 else urgency
    if np.ptp(direction) <= 1e-9:
        return ratios
    centred = (direction - direction.mean()) * (np.log(min_range) / np.ptp(direction))
    widened = np.exp(logs.mean() + centred)
    return widened * min(1.0, MAX_RATIO / widened.max())
