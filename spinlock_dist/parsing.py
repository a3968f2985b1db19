"""From a tree of settings to a typed section, and what is wrong with it in a line."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from spinlock_dist.errors import ConfigError, did_you_mean

T = TypeVar("T", bound=BaseModel)
Lines = dict[tuple[Any, ...], int]
"""The line of every key path of a file, from 1."""
SectionOf = Callable[[Any], type[BaseModel] | None]
"""The section that a part of a tree says it is, as an encoder does by its name; None if it says nothing."""


def parse(model: type[T], tree: Any, source: str, lines: Lines | None, section_of: SectionOf) -> T:
    """Validate `tree` as `model`. Raises `ConfigError` naming `source`, the line if known, and the nearest name."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping of settings, found {type(tree).__name__}")
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors()[0])
        path = tuple(first["loc"])
        known = list(_section_at(model, tree, path[:-1], section_of).model_fields) if path else []
        raise ConfigError(_where(source, path, lines or {}) + _what(first, path, known)) from None


def _where(source: str, path: tuple[Any, ...], lines: Lines) -> str:
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    return f"{source}, line {line}" if line else source


def _what(first: dict[str, Any], path: tuple[Any, ...], known: list[str]) -> str:
    name = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        return f": unknown setting '{name}'{did_you_mean(str(path[-1]), known)}"
    if first["type"] == "value_error":
        return f": {name}: {first['ctx']['error']}" if name else f": {first['ctx']['error']}"
    found = "" if first["type"] == "missing" else f", found {reprlib.repr(first['input'])}"
    return f": {name}: {first['msg'][0].lower()}{first['msg'][1:]}{found}"


def _section_at(model: type[BaseModel], tree: Any, path: tuple[Any, ...], section_of: SectionOf) -> type[BaseModel]:
    """The section at `path`, as far as it can be followed: through nested sections, and what a part says it is."""
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return model
        field = model.model_fields.get(str(key))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
        elif (named := section_of(tree)) is not None:
            model = named
    return model


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
