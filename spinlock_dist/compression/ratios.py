"""From needs to ratios: spread over the searched bounds, and widened to a minimum range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies import UNIFORM_RATIOS, Strategy, get_strategy
from spinlock_dist.compression.strategies.strategy import scaled
from spinlock_dist.config import LEVELS, CompressionConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.given_ratios import MAX_RATIO


def allocate_ratios(config: CompressionConfig, categories: Sequence[Characteristics]) -> np.ndarray:
    """The compression ratios `[C, L]` that the configured strategy gives these categories.

    From a need: `u` = needs scaled to [0, 1], sharpened to `u ** sharpness`; `r = low * (high / low) ** u` per level.
    From a factor: `factor ** sharpness` times the uniform ratios, cut off at the bounds.
    Rule `spinlock`: the published ratios, widened to `min_ratio_range`; a strategy without any ignores the rule.
    Stated ratios are as the config says. A measured strategy gives those of `uniform`, from which it starts.
    Raises `ConfigError` for an unknown strategy, for stated ratios of other categories, or where bounds are read and
    those of a level forbid `min_ratio_range`.
    """
    strategy = get_strategy(config.strategy)
    if strategy.measured:
        strategy = get_strategy("uniform")
    if strategy.stated is not None:
        return strategy.stated(config, categories)
    if strategy.factor is not None:
        return _within_bounds(config, strategy.factor(categories) ** config.sharpness)
    if strategy.need is None:
        return _published(strategy, categories)
    urgency = scaled(strategy.need(categories)) ** config.sharpness
    if config.rule == "graded" or strategy.published is None:
        _check_range(config)
        return _spread(config, urgency)
    table = _published(strategy, categories)
    return np.stack([widen(ratios, config.min_ratio_range, urgency) for ratios in table.T], axis=1)


def _within_bounds(config: CompressionConfig, factor: np.ndarray) -> np.ndarray:
    """The ratios `[C, L]` of categories with `factor` `[C]` times the uniform capacity, cut off at the bounds.

    Where that leaves a level less than `min_ratio_range` they are spread over the bounds, as needs are.
    """
    _check_range(config)
    low, high = np.array(config.bounds.pairs()).T
    ratios = np.clip(factor[:, None] * UNIFORM_RATIOS, low, high)
    if np.ptp(factor) == 0:
        return ratios
    short = ratios.max(axis=0) / ratios.min(axis=0) < config.min_ratio_range * (1 - 1e-9)
    return np.where(short, _spread(config, scaled(np.log(factor))), ratios)


def _spread(config: CompressionConfig, urgency: np.ndarray) -> np.ndarray:
    low, high = np.array(config.bounds.pairs()).T
    return low * (high / low) ** urgency[:, None]


def _published(strategy: Strategy, categories: Sequence[Characteristics]) -> np.ndarray:
    assert strategy.published is not None, "a strategy says one of them"
    return np.array([strategy.published(category) for category in categories], dtype=float)


def _check_range(config: CompressionConfig) -> None:
    for level, (low, high) in zip(LEVELS, config.bounds.pairs(), strict=True):
        if high / low < config.min_ratio_range * (1 - 1e-9):
            raise ConfigError(
                f"compression.min_ratio_range {config.min_ratio_range:g} needs {level} bounds with high / low of at "
                f"least that; {low:g} and {high:g} allow {high / low:.3g}"
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
