"""A search space in Optuna's terms: distributions, and values drawn from them trial by trial."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import Categorical, Float, Int, Parameter, SearchSpace


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return a parameter as Optuna stores it."""
    if isinstance(parameter, Categorical):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return all parameters of `space`, those that count only sometimes as well."""
    return {name: distribution(parameter) for name, parameter in space.parameters.items()}


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """Draw a value for every parameter of `space` that counts beside those drawn before it, by dotted name."""
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


def from_unit(parameter: Parameter, unit: float) -> Any:
    """Return the value at `unit` in [0, 1]: numbers by their scale, and every value of a finite range an equal part.

    Whole numbers on a logarithmic scale have the part between the halves around them.
    """
    if isinstance(parameter, Categorical):
        return parameter.choices[min(int(unit * len(parameter.choices)), len(parameter.choices) - 1)]
    low, high = parameter.low, parameter.high
    if isinstance(parameter, Int) and parameter.log:
        value: float = round((low - 0.5) * ((high + 0.5) / (low - 0.5)) ** unit)
    elif parameter.log:
        value = low * (high / low) ** unit
    elif parameter.step is None:
        value = low + unit * (high - low)
    else:
        count = parameter.count() or 1
        value = low + min(int(unit * count), count - 1) * parameter.step
    return min(high, max(low, value))


def to_unit(parameter: Float | Int, value: float) -> float:
    """Return where in [0, 1] a number lies, the middle of its part if the range is finite."""
    low, high = parameter.low, parameter.high
    if isinstance(parameter, Int) and parameter.log:
        low, high = low - 0.5, high + 0.5
    if parameter.log:
        return math.log(value / low) / math.log(high / low)
    if parameter.step is None:
        return (value - low) / (high - low)
    return ((value - low) / parameter.step + 0.5) / (parameter.count() or 1)
