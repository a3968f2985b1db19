"""Configs as YAML or JSON: read with the line of every setting, explained where they are wrong, written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from spinlock_dist.config import TrialConfig, section_of
from spinlock_dist.documents import read_document, read_text
from spinlock_dist.errors import ConfigError
from spinlock_dist.parsing import Lines, assign, parse
from spinlock_dist.preset import over_preset

T = TypeVar("T", bound=BaseModel)


def parse_config(model: type[T], tree: Any, source: str, lines: Lines | None = None) -> T:
    """Validate `tree` as `model`. Raises `ConfigError` naming `source`, the line if known, and the nearest name."""
    return parse(model, tree, source, lines, section_of)


def read_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """The settings in the `NAME=VALUE` of `--set`, by dotted name; values are YAML. Raises `ConfigError`."""
    return dict(map(_assignment, texts))


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: expected NAME=VALUE")
    return name, read_text(value, f"--set {text}")[0]


def with_overrides(config: T, overrides: Mapping[str, Any], source: str) -> T:
    """A copy with dotted names replaced. Raises `ConfigError`, naming `source`, as `TrialConfig.with_overrides`."""
    tree = config.model_dump(mode="json")
    for name, value in overrides.items():
        assign(tree, name, value, source)
    return parse_config(type(config), tree, source)


def load_config(path: str | Path) -> TrialConfig:
    """Read a trial config from YAML or JSON; settings left out keep their defaults, or those of its `preset`."""
    tree, lines = read_document(path)
    return parse_config(TrialConfig, over_preset({} if tree is None else tree, str(path)), str(path), lines)


def dump_config(config: BaseModel) -> str:
    """`config` as YAML that `load_config` reads back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
