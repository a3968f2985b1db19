"""Builds a search space: files laid over each other, conditions resolved, every config in it checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from search_spaces.file import SpaceFile
from search_spaces.space import Categorical, SearchSpace, among, condition_fault
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import did_you_mean

MIN_RANGE = "compression.min_ratio_range"


@dataclass(frozen=True)
class _Entry:
    """A parameter or a fixed value, and where it was given."""

    value: Any
    file: SpaceFile
    section: str
    age: int
    """Number of files added before its own."""


class Draft:
    """Collects the files of a space. Every refusal is a `ConfigError` that names file and line."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._files: list[SpaceFile] = []

    def put(self, file: SpaceFile) -> None:
        """Lay the entries of `file` over the present ones."""
        self._check_names(file)
        for index, name in enumerate(file.removed):
            if name not in self._entries:
                known = did_you_mean(name, self._entries)
                file.fail(f"remove: '{name}' is not in the space that this one extends{known}", "remove", index)
            if name in file.parameters or name in file.fixed:
                file.fail(f"{name} is both removed and given; to change it, give it alone", "remove", index)
            del self._entries[name]
        for section, given in (("parameters", file.parameters), ("fixed", file.fixed)):
            for name, value in given.items():
                self._entries.pop(_other_end(name), None)
                self._entries[name] = _Entry(value, file, section, len(self._files))
        self._files.append(file)

    def space(self) -> SearchSpace:
        """The finished space. Every config in it can run, on data that it fits."""
        self._settle_conditions()
        own = self._files[-1]
        parameters = dict(self._of("parameters"))
        if not parameters:
            own.fail("no parameter is left to search: all are fixed or removed")
        for name in parameters:
            if fault := condition_fault(name, parameters):
                self._fail(name, f"{name}: {fault}")
        space = SearchSpace(
            name=own.path.stem,
            description=own.description,
            parameters=parameters,
            fixed=dict(self._of("fixed")),
        )
        self._check_values(space)
        self._check_tightest_corners(space)
        return space

    def _of(self, section: str) -> Iterator[tuple[str, Any]]:
        return ((name, entry.value) for name, entry in self._entries.items() if entry.section == section)

    def _fail(self, name: str, message: str) -> NoReturn:
        entry = self._entries[name]
        entry.file.fail(message, entry.section, name)

    # ------------------------------------------------------------ conditions

    def _settle_conditions(self) -> None:
        """Drop inherited parameters that can no longer apply, and conditions that always hold.

        A later file that fixes a parameter, or narrows its choices, decides some of the conditions on it.
        """
        gone: dict[str, _Entry] = {}
        while any(self._settle(name, gone) for name in list(self._entries)):
            pass

    def _settle(self, name: str, gone: dict[str, _Entry]) -> bool:
        """Resolve the condition of `name`. True if `name` was dropped, which may decide the conditions of others."""
        entry, when = self._entries[name], {}
        for parent, allowed in (entry.value.when or {}).items() if entry.section == "parameters" else ():
            decider = gone.get(parent) or self._entries.get(parent)
            possible = () if parent in gone else _values_of(decider)
            if decider is None or possible is None:
                when[parent] = allowed  # nothing to ask about; `condition_fault` will say so
                continue
            left = tuple(value for value in allowed if among(value, possible))
            if not left and entry.age < decider.age:
                gone[name] = decider
                del self._entries[name]
                return True
            if not left and decider.section == "fixed":
                self._fail(name, f"{name}: never counts, because {parent} is fixed at {decider.value!r}")
            if decider.section == "parameters":
                when[parent] = left if entry.age < decider.age else allowed
        if entry.section == "parameters" and when != (entry.value.when or {}):
            value = entry.value.model_copy(update={"when": when or None})
            self._entries[name] = replace(entry, value=value)
        return False

    # ------------------------------------------------------------ checks

    def _check_names(self, file: SpaceFile) -> None:
        given = {**file.parameters, **file.fixed}
        for section, names in (("parameters", file.parameters), ("fixed", file.fixed)):
            for name in names:
                if reason := _refusal(name, section):
                    file.fail(f"{name}: {reason}", section, name)
                if name.endswith(".span") and _other_end(name) in given:
                    file.fail(f"{name}: give high or span, not both", section, name)
        for name in file.fixed:
            if name in file.parameters:
                file.fail(f"{name} is both fixed and a parameter", "fixed", name)

    def _check_values(self, space: SearchSpace) -> None:
        """Check every fixed value and probe by itself; only the two ends of a bound have to be checked together."""
        first = {name: parameter.probes()[0] for name, parameter in space.parameters.items()}
        settings = {**space.fixed, **first}
        for name, value in _values(space):
            entry = self._entries[name]
            together = {other: settings[other] for other in settings if _bounds_of(other) == _bounds_of(name) != ""}
            where = entry.file.where(entry.section, name)
            strategy = TrialConfig().with_overrides({**together, name: value}, where).compression.strategy
            if strategy not in STRATEGIES:
                self._fail(name, f"{name}: unknown strategy '{strategy}'{did_you_mean(strategy, STRATEGIES)}")

    def _check_tightest_corners(self, space: SearchSpace) -> None:
        """Where the bounds are narrowest, they must still be in order and leave room for `min_ratio_range`."""
        source = f"{self._files[-1].path}: where the bounds are narrowest"
        for names in dict.fromkeys(branch.names for branch in space.branches()):
            corner: dict[str, Any] = {}
            for name in names:
                if _bounds_of(name) or name == MIN_RANGE:
                    narrowest = min if name.endswith((".high", ".span")) else max
                    corner[name] = narrowest(map(float, space.parameters[name].probes()))
            compression = TrialConfig().with_overrides({**space.fixed, **corner}, source).compression
            room = min(high / low for low, high in compression.bounds.pairs())
            if room < compression.min_ratio_range * (1 - 1e-9):
                message = f"goes up to {compression.min_ratio_range:g}, the narrowest bounds allow {room:.3g}"
                self._fail(MIN_RANGE, f"{MIN_RANGE} {message}")


def _values_of(entry: _Entry | None) -> Sequence[Any] | None:
    """All values that a setting can have; None if they cannot be listed."""
    if entry is None or entry.section == "fixed":
        return None if entry is None else (entry.value,)
    return entry.value.choices if isinstance(entry.value, Categorical) else None


def _refusal(name: str, section: str) -> str | None:
    """Why a study may not set `name`; None if it may."""
    if name == "prepare" or name.startswith("prepare."):
        return "the data is fixed for a study; set it in the study's own config"
    if name == "seed":
        return "the study assigns seeds; searching one would select for luck"
    if name == "training.epochs" and section == "parameters":
        return "every trial trains as long as the baseline; put it under 'fixed'"
    return None


def _values(space: SearchSpace) -> Iterator[tuple[str, Any]]:
    """Yield name and value of everything that has to be valid."""
    yield from space.fixed.items()
    for name, parameter in space.parameters.items():
        for value in parameter.probes():
            yield name, value


def _bounds_of(name: str) -> str:
    """The bounds that `name` is an end of; empty if it is none."""
    parent = name.rpartition(".")[0]
    return parent if parent.startswith("compression.bounds.") else ""


def _other_end(name: str) -> str:
    """The setting that says the same as `name` in another way: `span` for `high` and back; else ''."""
    ends = {"high": "span", "span": "high"}
    parent, _, leaf = name.rpartition(".")
    return f"{parent}.{ends[leaf]}" if _bounds_of(name) and leaf in ends else ""
