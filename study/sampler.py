"""From a search space to Optuna: suggestions, the sampler, and the points to try first."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler

from search_spaces import Categorical, Float, Int, SearchSpace
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig
from spinlock_dist.seeding import derive_seed

STRATEGY = "compression.strategy"
RULE = "compression.rule"
UNIFORM = "uniform"


def make_sampler(seed: int, stored_trials: int) -> BaseSampler:
    """Return a seeded TPE sampler (Bergstra et al. 2011), multivariate and with a constant liar for parallel trials.

    Its stream depends on how many trials are stored: a resumed study goes on, it does not repeat its suggestions.
    """
    stream = derive_seed(seed, "sampler", stored_trials) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # `group`
        # one joint model, and one for each group of conditional parameters; constant_liar is Optuna 5's default
        return TPESampler(seed=stream, multivariate=True, group=True)


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """Draw a value for every parameter of `space` that counts beside those drawn before it, by dotted name."""
    values: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if space.counts(name, values):
            values[name] = _suggest(trial, name, parameter)
    return values


def _suggest(trial: optuna.Trial, name: str, parameter: Float | Int | Categorical) -> Any:
    if isinstance(parameter, Categorical):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, Int):
        return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def first_points(space: SearchSpace, base: TrialConfig) -> list[dict[str, Any]]:
    """Return the known answers as partial points, uniform ratios first: they are tried before anything is searched.

    One for each strategy of the space, under its published rule if it has one and the space offers that; else one.
    Other settings are those of `base`, where the space contains them; the sampler fills in the rest.
    """
    strategies = space.parameters.get(STRATEGY)
    choices = strategies.choices if isinstance(strategies, Categorical) else ()
    known = [str(choice) for choice in choices]
    points = [_point(space, base, _published(strategy)) for strategy in sorted(known, key=lambda name: name != UNIFORM)]
    return points or [_point(space, base, {})]


def _published(strategy: str) -> dict[str, Any]:
    return {STRATEGY: strategy, **({RULE: "spinlock"} if STRATEGIES[strategy].has_rule else {})}


def _point(space: SearchSpace, base: TrialConfig, given: dict[str, Any]) -> dict[str, Any]:
    """Return `given`, and `base` elsewhere, as far as the space contains it."""
    config = space.to_config(base, {})
    values: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        candidates = [given[name]] if name in given else []
        candidates.append(_setting(config, name))
        fitting = [value for value in candidates if parameter.contains(value)]
        if fitting and space.counts(name, values):
            values[name] = fitting[0]
    return values


def _setting(config: TrialConfig, name: str) -> Any:
    """Return a setting by dotted name; `span` is high / low."""
    node: Any = config
    for key in name.split("."):
        node = node.high / node.low if key == "span" else getattr(node, key)
    return node
