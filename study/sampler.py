"""From a search space to Optuna: suggestions, the sampler, and the points to try first."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.samplers import BaseSampler, TPESampler

from search_spaces import Categorical, Float, Int, SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.seeding import derive_seed

STRATEGY = "compression.strategy"
RULE = "compression.rule"


def make_sampler(seed: int, stored_trials: int) -> BaseSampler:
    """Return a seeded TPE sampler (Bergstra et al. 2011), multivariate and with a constant liar for parallel trials.

    Its stream depends on how many trials are stored: a resumed study goes on, it does not repeat its suggestions.
    """
    stream = derive_seed(seed, "sampler", stored_trials) % 2**32
    return TPESampler(seed=stream)  # multivariate and constant_liar are Optuna 5's defaults


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """Draw a value for every parameter of `space`, by dotted name."""
    return {name: _suggest(trial, name, parameter) for name, parameter in space.parameters.items()}


def _suggest(trial: optuna.Trial, name: str, parameter: Float | Int | Categorical) -> Any:
    if isinstance(parameter, Categorical):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, Int):
        return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def first_points(space: SearchSpace, base: TrialConfig) -> list[dict[str, Any]]:
    """Return every strategy of the space as a partial point: the known answers are tried before anything is searched.

    Each comes with the published rule, if it has one, and, where the space searches them, the settings of `base`; the
    sampler fills in the rest.
    """
    strategies, rules = space.parameters.get(STRATEGY), space.parameters.get(RULE)
    if not isinstance(strategies, Categorical) or not isinstance(rules, Categorical) or "spinlock" not in rules.choices:
        return []
    defaults = {
        name: value
        for name, parameter in space.parameters.items()
        if name not in (STRATEGY, RULE) and _contains(parameter, value := _setting(base, name))
    }
    return [{STRATEGY: strategy, RULE: "spinlock", **defaults} for strategy in strategies.choices]


def _setting(config: TrialConfig, name: str) -> Any:
    """Return a setting by dotted name, or None where the config has no such name (`span`)."""
    node: Any = config
    for key in name.split("."):
        node = getattr(node, key, None)
    return node


def _contains(parameter: Float | Int | Categorical, value: Any) -> bool:
    if isinstance(parameter, Categorical):
        return value in parameter.choices
    return isinstance(value, int | float) and parameter.step in (None, 1) and parameter.low <= value <= parameter.high
