"""Configs as YAML: read with the line of every setting, explained where they are wrong, written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from spinlock_dist.config import TrialConfig, section_of
from spinlock_dist.errors import ConfigError
from spinlock_dist.parsing import Lines, parse
from spinlock_dist.preset import over_preset

T = TypeVar("T", bound=BaseModel)


def parse_config(model: type[T], tree: Any, source: str, lines: Lines | None = None) -> T:
    """Validate `tree` as `model`. Raises `ConfigError` naming `source`, the line if known, and the nearest name."""
    return parse(model, tree, source, lines, section_of)


def read_yaml(path: str | Path) -> tuple[Any, Lines]:
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
        lines: Lines = {}
        _collect_lines(root, (), lines, set())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(
            f"{where}: not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        ) from None
    return tree, lines


def _collect_lines(node: yaml.Node | None, path: tuple[Any, ...], lines: Lines, seen: set[int]) -> None:
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
