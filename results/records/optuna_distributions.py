"""A search space in Optuna's terms: distributions, and values drawn from them trial by trial."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import Categorical, Int, Parameter, SearchSpace


def distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter as Optuna stores it."""
    if isinstance(parameter, Categorical):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """All parameters of `space`, conditional ones included."""
    return {name: distribution(parameter) for name, parameter in space.parameters.items()}


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """Draw a value for every parameter of `space` whose condition holds, by dotted name."""
    values: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if space.counts(name, values):
            values[name] = _suggest(trial, name, parameter)
    return values


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Categorical):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, Int):
        return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
