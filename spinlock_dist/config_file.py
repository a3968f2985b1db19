"""Configs as YAML: read with the line of every setting, explained where they are wrong, written."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from spinlock_dist.config import ENCODERS, TrialConfig
from spinlock_dist.errors import ConfigError, did_you_mean
from spinlock_dist.preset import over_preset

T = TypeVar("T", bound=BaseModel)


def parse_config(model: type[T], tree: Any, source: str, lines: dict[tuple[Any, ...], int] | None = None) -> T:
    """Validate `tree` as `model`. Raises `ConfigError` naming `source`, the line if known, and the nearest name."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping of settings, found {type(tree).__name__}")
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(model, error, tree, source, lines or {})) from None


def _explain(
    model: type[BaseModel], error: ValidationError, tree: Any, source: str, lines: dict[tuple[Any, ...], int]
) -> str:
    first = error.errors()[0]
    path = tuple(key for key in first["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    where = f"{source}, line {line}" if line else source
    name = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        known = _section_at(model, tree, path[:-1]).model_fields
        return f"{where}: unknown setting '{name}'{did_you_mean(str(path[-1]), known)}"
    if first["type"] == "value_error":
        return f"{where}: {name}: {first['ctx']['error']}" if name else f"{where}: {first['ctx']['error']}"
    found = "" if first["type"] == "missing" else f", found {reprlib.repr(first['input'])}"
    return f"{where}: {name}: {first['msg'][0].lower()}{first['msg'][1:]}{found}"


def _section_at(model: type[BaseModel], tree: Any, path: tuple[Any, ...]) -> type[BaseModel]:
    """The section at `path`: through nested sections, and to the encoder that `tree` names there."""
    for key in path:
        tree = tree[key]
        field = model.model_fields.get(str(key))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
        elif isinstance(tree, dict) and tree.get("encoder") in ENCODERS:
            model = ENCODERS[tree["encoder"]]
    return model


def read_yaml(path: str | Path) -> tuple[Any, dict[tuple[Any, ...], int]]:
    """The content of a YAML file and the 1-based line of every key path in it.

    Raises `ConfigError` if the file is missing, not text, not YAML, or gives a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
        lines: dict[tuple[Any, ...], int] = {}
        _collect_lines(root, (), lines, set())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(
            f"{where}: not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        ) from None
    return tree, lines


def _collect_lines(
    node: yaml.Node | None, path: tuple[Any, ...], lines: dict[tuple[Any, ...], int], seen: set[int]
) -> None:
    if id(node) in seen:  # an alias; following it again could go round for ever
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, key.value)
            if inner in lines:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect_lines(item, (*path, index), lines, seen)


def load_config(path: str | Path) -> TrialConfig:
    """Read a trial config from YAML; settings left out keep their defaults, or those of the `preset` it names."""
    tree, lines = read_yaml(path)
    return parse_config(TrialConfig, over_preset({} if tree is None else tree, str(path)), str(path), lines)


def dump_config(config: BaseModel) -> str:
    """`config` as YAML that `load_config` reads back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def assign(tree: dict[str, Any], name: str, value: Any, source: str) -> None:
    """Replace the setting with a dotted name in a tree of settings. Raises `ConfigError` if there is none."""
    *parents, leaf = name.split(".")
    node = tree
    for key in parents:
        if not isinstance(node.get(key), dict):
            raise ConfigError(f"{source}: '{name}' is not a setting{did_you_mean(key, node)}")
        node = node[key]
    # `span` replaces `high`: a bound is given as {low, high} or as {low, span}, never both.
    if leaf == "span" and "high" in node:
        del node["high"]
    elif leaf not in node:
        raise ConfigError(f"{source}: '{name}' is not a setting{did_you_mean(leaf, node)}")
    node[leaf] = value
