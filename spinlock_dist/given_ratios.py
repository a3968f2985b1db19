"""Compression ratios that a config states: one triple for all categories, one for each, or a file that has them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from spinlock_dist.documents import read_document
from spinlock_dist.errors import ConfigError

RatioTriple = tuple[float, float, float]
"""Ratios of L0, L1 and L2."""
GivenRatios = RatioTriple | dict[str, RatioTriple]

MAX_RATIO = 4.0
META = "meta.json"
BEST = Path("best", "checkpoint")
"""Where a study keeps its best trial."""


def read_given(value: Any) -> GivenRatios:
    """A triple, `L0:L1:L2`, a mapping of categories to these, or the path of a YAML or JSON file with such a mapping,
    of a checkpoint or of a study, whose best checkpoint is meant. What is read from a file stays when the file goes.

    Raises `ValueError` for anything else.
    """
    if isinstance(value, str) and ":" not in value:
        return _from_path(Path(value))
    if isinstance(value, dict):
        if not value:
            raise ValueError("has no categories")
        return {str(category): _triple(ratios, f"{category}: ") for category, ratios in value.items()}
    return _triple(value, "")


def _triple(value: Any, where: str) -> RatioTriple:
    parts = value.split(":") if isinstance(value, str) else value
    try:
        ratios = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        ratios = ()
    if len(ratios) != 3 or not all(math.isfinite(ratio) and 0 < ratio <= MAX_RATIO for ratio in ratios):
        raise ValueError(f"{where}expected three ratios above 0 and up to {MAX_RATIO:g} (L0, L1, L2), found {value!r}")
    l0, l1, l2 = ratios
    return l0, l1, l2


def _from_path(path: Path) -> GivenRatios:
    if path.is_dir():
        path = next((each for each in (path / META, path / BEST / META) if each.exists()), path / META)
    try:
        tree, _ = read_document(path)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if isinstance(tree, dict) and path.name == META:
        try:
            tree = dict(zip(tree["categories"], tree["plan"]["ratios"], strict=True))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: holds no ratios") from None
    if not isinstance(tree, dict) or not tree:
        raise ValueError(f"{path}: expected a mapping 'category: [L0, L1, L2]'")
    try:
        return read_given(tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
