"""Configs as YAML or JSON: read with the line of every setting, explained where they are wrong, written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from spinlock_dist.config import TrialConfig, section_of
from spinlock_dist.documents import read_document
from spinlock_dist.parsing import Lines, parse
from spinlock_dist.preset import over_preset

T = TypeVar("T", bound=BaseModel)


def parse_config(model: type[T], tree: Any, source: str, lines: Lines | None = None) -> T:
    """Validate `tree` as `model`. Raises `ConfigError` naming `source`, the line if known, and the nearest name."""
    return parse(model, tree, source, lines, section_of)


def load_config(path: str | Path) -> TrialConfig:
    """Read a trial config from YAML or JSON; settings left out keep their defaults, or those of its `preset`."""
    tree, lines = read_document(path)
    return parse_config(TrialConfig, over_preset({} if tree is None else tree, str(path)), str(path), lines)


def dump_config(config: BaseModel) -> str:
    """`config` as YAML that `load_config` reads back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
