"""A search space as plain data: which settings of a trial may vary, and how far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from spinlock_dist.config import Section, TrialConfig
from spinlock_dist.errors import ConfigError, did_you_mean

Scalar = str | int | float | bool | None


class Conditional(Section):
    """What all parameters share: the condition under which one counts."""

    when: dict[str, tuple[Scalar, ...]] | None = Field(None, min_length=1)
    """Other parameters, and the values that each of them must have; always when absent. Elsewhere the setting stays as
    the study's base has it, and no sampler hears of it."""

    @field_validator("when", mode="before")
    @classmethod
    def _one_value_is_a_list_of_one(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: values if isinstance(values, list | tuple) else (values,) for name, values in given.items()}


class Float(Conditional):
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
        """How many values there are; None if continuous."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the values."""
        return _in_range(value, self.low, self.high, self.step)

    def probes(self) -> tuple[Any, ...]:
        """The values that must be valid: both ends, and one between them that is not a whole number."""
        within = self.low + (self.high - self.low) / math.e
        return (self.low, self.high) if self.step else (self.low, within, self.high)


class Int(Conditional):
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
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the values."""
        return isinstance(value, int) and _in_range(value, self.low, self.high, self.step)

    def probes(self) -> tuple[Any, ...]:
        """The values that must be valid: both ends."""
        return (self.low, self.high)


class Categorical(Conditional):
    """One of `choices`, without an order among them."""

    choices: tuple[Scalar, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _choices_differ(self) -> Self:
        for index, choice in enumerate(self.choices):
            if among(choice, self.choices[:index]):
                raise ValueError(f"choice {choice!r} is listed twice")
        return self

    def count(self) -> int:
        """How many values there are."""
        return len(self.choices)

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the choices."""
        return among(value, self.choices)

    def probes(self) -> tuple[Any, ...]:
        """The values that must be valid: every choice."""
        return self.choices


Parameter = Float | Int | Categorical


def among(value: Any, values: Iterable[Any]) -> bool:
    """Whether `value` is one of `values`; 1, 1.0 and true are three values, as in YAML."""
    return any(type(value) is type(other) and value == other for other in values)


def _in_range(value: Any, low: float, high: float, step: float | None) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        return False
    steps = (value - low) / step if step else 0.0
    return abs(steps - round(steps)) <= 1e-6


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
class Branch:
    """A part of a space in which the same parameters apply."""

    choices: dict[str, tuple[Scalar, ...]]
    """Of every parameter that a condition refers to: the choices that lead here."""
    names: tuple[str, ...]
    """The parameters that apply, in the order of the space."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a study varies (`parameters`) and what it sets once for all its trials (`fixed`), by dotted name.

    Parameters stand in an order in which each comes after those its condition asks about. Raises `ConfigError` for a
    condition that nothing can fulfil.
    """

    name: str
    description: str
    parameters: dict[str, Parameter]
    fixed: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.parameters:
            if fault := condition_fault(name, self.parameters):
                raise ConfigError(f"search space '{self.name}': {name}: {fault}")
        order = {name: self.parameters[name] for name in _parents_first(self.parameters)}
        object.__setattr__(self, "parameters", order)

    def counts(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether the condition of `name` holds, given the `values` of the parameters before it."""
        when = self.parameters[name].when or {}
        return all(parent in values and among(values[parent], allowed) for parent, allowed in when.items())

    def only(self, name: str, choice: Scalar) -> SearchSpace:
        """The part of the space in which the categorical parameter `name` has this one choice."""
        parameters: dict[str, Parameter] = {}
        for each, parameter in self.parameters.items():  # parents come first
            when = dict(parameter.when or {})
            if name in when and among(choice, when[name]):
                when[name] = (choice,)
            elif name in when:
                continue
            if all(parent in parameters for parent in when):
                given = {"choices": (choice,)} if each == name else {}
                parameters[each] = parameter.model_copy(update={"when": when or None, **given})
        return replace(self, parameters=parameters)

    def to_config(self, base: TrialConfig, values: dict[str, Any]) -> TrialConfig:
        """`base` with `fixed` and then `values`, by parameter name, applied.

        Raises `ConfigError` for a value whose name is no parameter of this space, or that `TrialConfig` refuses.
        """
        source = f"search space '{self.name}'"
        for name in values:
            if name not in self.parameters:
                raise ConfigError(
                    f"{source}: '{name}' is not one of its parameters{did_you_mean(name, self.parameters)}"
                )
        return base.with_overrides({**self.fixed, **values}, source)

    def branches(self) -> Iterator[Branch]:
        """Yield the parts of the space that differ in which parameters apply; one if nothing is conditional."""
        yield from self._branches(tuple(self.parameters), {})

    def _branches(self, rest: tuple[str, ...], choices: dict[str, tuple[Scalar, ...]]) -> Iterator[Branch]:
        for index, name in enumerate(rest):
            groups = self._groups(name)
            if groups and self.counts(name, {parent: group[0] for parent, group in choices.items()}):
                for group in groups:
                    yield from self._branches(rest[index + 1 :], {**choices, name: group})
                return
        values = {parent: group[0] for parent, group in choices.items()}
        yield Branch(choices=choices, names=tuple(name for name in self.parameters if self.counts(name, values)))

    def _groups(self, name: str) -> list[tuple[Scalar, ...]]:
        """The choices of `name` grouped by which conditions they meet; empty if no condition refers to it."""
        conditions = [
            each.when[name] for each in self.parameters.values() if each.when is not None and name in each.when
        ]
        groups: dict[tuple[bool, ...], tuple[Scalar, ...]] = {}
        parameter = self.parameters[name]
        if conditions and isinstance(parameter, Categorical):
            for choice in parameter.choices:
                key = tuple(among(choice, allowed) for allowed in conditions)
                groups[key] = (*groups.get(key, ()), choice)
        return list(groups.values())

    def combinations(self) -> int | None:
        """The number of different configs in the space; None if a parameter is continuous."""
        total = 0
        for branch in self.branches():
            for_each = [
                len(branch.choices[name]) if name in branch.choices else self.parameters[name].count()
                for name in branch.names
            ]
            finite = [count for count in for_each if count is not None]
            if len(finite) < len(for_each):
                return None
            total += math.prod(finite)
        return total


def setting_of(config: TrialConfig, name: str) -> Any:
    """A setting by a parameter's name; `span` is high / low."""
    node: Any = config
    for key in name.split("."):
        node = node.high / node.low if key == "span" else getattr(node, key)
    return node


def space_content(space: SearchSpace) -> dict[str, Any]:
    """A space as plain data, stored with a study because its file may change before the study resumes."""
    parameters = {
        name: {"type": type(parameter).__name__.lower(), **parameter.model_dump(mode="json")}
        for name, parameter in space.parameters.items()
    }
    return {"parameters": parameters, "fixed": dict(space.fixed)}


def space_of(content: Mapping[str, Any], name: str) -> SearchSpace:
    """The space stored as `content`. Raises `KeyError` or `ValueError` if it is damaged."""
    kinds = {kind.__name__.lower(): kind for kind in (Float, Int, Categorical)}
    parameters = {
        each: kinds[given["type"]].model_validate({key: value for key, value in given.items() if key != "type"})
        for each, given in content["parameters"].items()
    }
    return SearchSpace(name=name, description="", parameters=parameters, fixed=content["fixed"])


def condition_fault(name: str, parameters: Mapping[str, Parameter]) -> str | None:
    """What is wrong with the condition of `name`, None if nothing is."""
    for parent, allowed in (parameters[name].when or {}).items():
        known = parameters.get(parent)
        if known is None:
            return f"when: '{parent}' is not a parameter of this space{did_you_mean(parent, parameters)}"
        if not isinstance(known, Categorical):
            return f"when: {parent} is a number; a condition asks about the choices of a categorical parameter"
        if not allowed:
            return f"when: {parent}: name at least one of its choices"
        for value in allowed:
            if not among(value, known.choices):
                return f"when: {value!r} is no choice of {parent}{did_you_mean(str(value), map(str, known.choices))}"
        if name in _ancestors(parent, parameters):
            return f"when: {name} depends on {parent}, which depends on {name}"
    return None


def _ancestors(name: str, parameters: Mapping[str, Parameter]) -> set[str]:
    """`name` and everything its condition depends on."""
    found, pending = set(), [name]
    while pending:
        if (current := pending.pop()) not in found:
            found.add(current)
            pending += list((parameters[current].when or {}) if current in parameters else ())
    return found


def _parents_first(parameters: Mapping[str, Parameter]) -> list[str]:
    """The names in an order in which each comes after those its condition refers to, otherwise unchanged."""
    order: dict[str, None] = {}

    def place(name: str) -> None:
        for parent in parameters[name].when or {}:
            place(parent)
        order.setdefault(name)

    for name in parameters:
        place(name)
    return list(order)
