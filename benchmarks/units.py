"""Parameters of a search space on the unit interval, for tables of recorded trials."""

from __future__ import annotations

import math
from typing import Any

from search_spaces import Categorical, Float, Int, Parameter


def from_unit(parameter: Parameter, unit: float) -> Any:
    """The value at `unit` in [0, 1] on the parameter's scale; the values of a finite range get equal shares.

    A whole number n on a logarithmic scale gets the share from n - 0.5 to n + 0.5.
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
    """Where in [0, 1] a number lies; the middle of its share if the range is finite."""
    low, high = parameter.low, parameter.high
    if isinstance(parameter, Int) and parameter.log:
        low, high = low - 0.5, high + 0.5
    if parameter.log:
        return math.log(value / low) / math.log(high / low)
    if parameter.step is None:
        return (value - low) / (high - low)
    return ((value - low) / parameter.step + 0.5) / (parameter.count() or 1)
