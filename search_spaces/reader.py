"""Reads search spaces from YAML and refuses, with file and line, what could not be run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from search_spaces.space import Categorical, Float, Int, Parameter, SearchSpace
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig, parse_config, read_yaml
from spinlock_dist.errors import ConfigError, did_you_mean

PRESETS = Path(__file__).parent
TYPES: dict[str, type[Parameter]] = {"float": Float, "int": Int, "categorical": Categorical}
SECTIONS = ("description", "parameters", "fixed")


def preset_names() -> list[str]:
    """Return the names of the search spaces that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_space(name_or_path: str | Path) -> SearchSpace:
    """Read a preset by name, or a YAML file by path, and check that every config in it can be run.

    Raises `ConfigError` naming the file, the line and, for a misspelt name, the nearest known one.
    """
    return _Reader(_locate(name_or_path)).read()


def _locate(name_or_path: str | Path) -> Path:
    name, path = str(name_or_path), Path(name_or_path)
    if name in preset_names():
        return PRESETS / f"{name}.yaml"
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise ConfigError(
        f"no search space '{name}'{did_you_mean(name, preset_names())} (or give the path of a .yaml file)"
    )


class _Reader:
    """One file being read: its content, and the lines for messages about it."""

    def __init__(self, path: Path):
        self.path = path
        self.tree, self.lines = read_yaml(path)

    def read(self) -> SearchSpace:
        self._check_sections()
        parameters = self.tree["parameters"]
        space = SearchSpace(
            name=self.path.stem,
            description=self.tree["description"].strip(),
            parameters={str(name): self._parameter(str(name), given) for name, given in parameters.items()},
            fixed={str(name): value for name, value in (self.tree.get("fixed") or {}).items()},
        )
        self._check_names(space)
        self._check_values(space)
        self._check_tightest_corner(space)
        return space

    def fail(self, message: str, *key: str) -> NoReturn:
        raise ConfigError(f"{self.where(*key)}: {message}")

    def where(self, *key: str) -> str:
        known = (self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines)
        line = next(known, None)
        return f"{self.path}, line {line}" if line else str(self.path)

    def _check_sections(self) -> None:
        if not isinstance(self.tree, dict):
            self.fail(f"expected a mapping with {', '.join(SECTIONS)}")
        for key in self.tree:
            if key not in SECTIONS:
                self.fail(f"unknown section '{key}'{did_you_mean(str(key), SECTIONS)}", str(key))
        if not isinstance(self.tree.get("description"), str) or not self.tree["description"].strip():
            self.fail("description must say in a line what the space is for", "description")
        if not isinstance(self.tree.get("parameters"), dict) or not self.tree["parameters"]:
            self.fail("parameters must map at least one setting to its range", "parameters")
        if not isinstance(self.tree.get("fixed") or {}, dict):
            self.fail("fixed must map settings to values", "fixed")

    def _parameter(self, name: str, given: Any) -> Parameter:
        key = ("parameters", name)
        if not isinstance(given, dict) or "type" not in given:
            self.fail(f"{name}: expected a mapping with type ({', '.join(TYPES)}) and its range", *key)
        kind = TYPES.get(str(given["type"]))
        if kind is None:
            self.fail(f"{name}: unknown type '{given['type']}'{did_you_mean(str(given['type']), TYPES)}", *key, "type")
        options = {str(option): value for option, value in given.items() if option != "type"}
        return parse_config(kind, options, f"{self.where(*key)}: {name}")

    def _check_names(self, space: SearchSpace) -> None:
        for section, names in (("parameters", space.parameters), ("fixed", space.fixed)):
            for name in names:
                if reason := _refusal(name, section):
                    self.fail(f"{name}: {reason}", section, name)
                parent, _, leaf = name.rpartition(".")
                if leaf == "span" and f"{parent}.high" in {**space.parameters, **space.fixed}:
                    self.fail(f"{name}: give high or span, not both", section, name)
        for name in space.fixed:
            if name in space.parameters:
                self.fail(f"{name} is both fixed and a parameter", "fixed", name)

    def _check_values(self, space: SearchSpace) -> None:
        """Try every fixed value and every probe by itself; only the two ends of a bound are valid or not together."""
        first = {name: parameter.probes()[0] for name, parameter in space.parameters.items()}
        settings = {**space.fixed, **first}
        for section, name, value in _values(space):
            together = {other: settings[other] for other in settings if _bounds_of(other) == _bounds_of(name) != ""}
            config = TrialConfig().with_overrides({**together, name: value}, self.where(section, name))
            strategy = config.compression.strategy
            if strategy not in STRATEGIES:
                self.fail(f"{name}: unknown strategy '{strategy}'{did_you_mean(strategy, STRATEGIES)}", section, name)

    def _check_tightest_corner(self, space: SearchSpace) -> None:
        """Where the bounds are narrowest, they must still be in order and leave room for `min_ratio_range`."""
        corner: dict[str, Any] = {}
        for name, parameter in space.parameters.items():
            if _bounds_of(name) or name == "compression.min_ratio_range":
                narrowest = min if name.endswith((".high", ".span")) else max
                corner[name] = narrowest(map(float, parameter.probes()))
        source = f"{self.path}: where the bounds are narrowest"
        config = TrialConfig().with_overrides({**space.fixed, **corner}, source)
        wanted = config.compression.min_ratio_range
        room = min(high / low for low, high in config.compression.bounds.pairs())
        if room < wanted * (1 - 1e-9):
            name = "compression.min_ratio_range"
            section = "fixed" if name in space.fixed else "parameters"
            self.fail(f"{name} goes up to {wanted:g}, the narrowest bounds allow {room:.3g}", section, name)


def _refusal(name: str, section: str) -> str | None:
    """Return why a study cannot set `name`, or None if it can."""
    if name == "prepare" or name.startswith("prepare."):
        return "the data is fixed for a study; set it in the study's own config"
    if name == "seed":
        return "the study hands out seeds; a searched seed would be luck"
    if name == "training.epochs" and section == "parameters":
        return "every trial trains as long as the baseline; put it under 'fixed'"
    return None


def _values(space: SearchSpace) -> Iterator[tuple[str, str, Any]]:
    """Yield section, name and value of all that has to be valid."""
    for name, value in space.fixed.items():
        yield "fixed", name, value
    for name, parameter in space.parameters.items():
        for value in parameter.probes():
            yield "parameters", name, value


def _bounds_of(name: str) -> str:
    """Return the bounds that `name` is an end of, or the empty string."""
    parent = name.rpartition(".")[0]
    return parent if parent.startswith("compression.bounds.") else ""
