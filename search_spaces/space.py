"""A search space as plain data: which settings of a trial may vary, and how far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import Field, model_validator

from spinlock_dist.config import Section, TrialConfig
from spinlock_dist.errors import ConfigError, did_you_mean

Scalar = str | int | float | bool | None


class Float(Section):
    """A real number in [low, high], uniform in it or in its logarithm, or on the grid low, low + step, ..., high."""

    low: float
    high: float
    log: bool = False
    step: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _range_is_possible(self) -> Self:
        _check_range(self.low, self.high, self.log)
        if self.step is not None:
            if self.log:
                raise ValueError("log and step exclude each other")
            _check_step(self.low, self.high, self.step)
        return self

    def count(self) -> int | None:
        """Return how many values there are; None if continuous."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def probes(self) -> tuple[Any, ...]:
        """Return the values that must be valid: both ends, and one between that is no whole number."""
        within = self.low + (self.high - self.low) / math.e
        return (self.low, self.high) if self.step else (self.low, within, self.high)


class Int(Section):
    """A whole number low, low + step, ..., high, uniform or, with step 1, uniform in its logarithm."""

    low: int = Field(ge=-(2**53), le=2**53)
    high: int = Field(ge=-(2**53), le=2**53)
    log: bool = False
    step: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _range_is_possible(self) -> Self:
        _check_range(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError("log and step exclude each other")
        _check_step(self.low, self.high, self.step)
        return self

    def count(self) -> int:
        """Return how many values there are."""
        return (self.high - self.low) // self.step + 1

    def probes(self) -> tuple[Any, ...]:
        """Return the values that must be valid: both ends."""
        return (self.low, self.high)


class Categorical(Section):
    """One of `choices`, without an order among them."""

    choices: tuple[Scalar, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _choices_differ(self) -> Self:
        for index, choice in enumerate(self.choices):
            if (type(choice), choice) in [(type(other), other) for other in self.choices[:index]]:
                raise ValueError(f"choice {choice!r} is listed twice")
        return self

    def count(self) -> int:
        """Return how many values there are."""
        return len(self.choices)

    def probes(self) -> tuple[Any, ...]:
        """Return the values that must be valid: every choice."""
        return self.choices


Parameter = Float | Int | Categorical


def _check_range(low: float, high: float, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low must be below high, are {low:g} and {high:g}; a constant belongs under 'fixed'")
    if log and low <= 0:
        raise ValueError(f"log needs low above 0, is {low:g}")


def _check_step(low: float, high: float, step: float) -> None:
    steps = (high - low) / step
    if not math.isfinite(steps) or abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
        raise ValueError(f"step {step:g} must divide high - low = {high - low:g} without remainder")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a study varies (`parameters`) and what it sets once for all its trials (`fixed`), by dotted name."""

    name: str
    description: str
    parameters: dict[str, Parameter]
    fixed: dict[str, Any] = field(default_factory=dict)

    def to_config(self, base: TrialConfig, values: dict[str, Any]) -> TrialConfig:
        """Return `base` with `fixed` and then `values` (by parameter name, or by some of them) put in.

        Raises `ConfigError` for a value whose name is no parameter of this space, or that `TrialConfig` refuses.
        """
        source = f"search space '{self.name}'"
        for name in values:
            if name not in self.parameters:
                raise ConfigError(
                    f"{source}: '{name}' is not one of its parameters{did_you_mean(name, self.parameters)}"
                )
        return base.with_overrides({**self.fixed, **values}, source)

    def combinations(self) -> int | None:
        """Return the number of different configs in the space; None if a parameter is continuous."""
        counts = [each.count() for each in self.parameters.values()]
        finite = [count for count in counts if count is not None]
        return math.prod(finite) if len(finite) == len(counts) else None
