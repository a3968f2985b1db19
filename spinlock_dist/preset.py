"""Named starting points for a trial config: `preset: NAME` on top of a YAML file, the rest of which goes over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spinlock_dist.errors import ConfigError, did_you_mean

_FOLDER = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """The names of the presets there are."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def read_preset(name: Any, source: str) -> dict[str, Any]:
    """The settings of a preset. Raises `ConfigError`, naming `source`, with the nearest name there is."""
    if name not in preset_names():
        raise ConfigError(f"{source}: unknown preset '{name}'{did_you_mean(str(name), preset_names())}")
    return yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def over_preset(tree: Any, source: str) -> Any:
    """`tree` put over the preset that its key `preset` names; unchanged if it names none.

    Sections merge setting by setting; a family that names an encoder is replaced whole, since another encoder has
    other settings. Raises `ConfigError` for an unknown preset.
    """
    if not isinstance(tree, dict) or "preset" not in tree:
        return tree
    rest = {key: value for key, value in tree.items() if key != "preset"}
    return merge(read_preset(tree["preset"], source), rest)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with the settings of `above` put over it, section by section."""
    merged = dict(below)
    for key, value in above.items():
        is_section = isinstance(value, dict) and isinstance(merged.get(key), dict) and "encoder" not in value
        merged[key] = merge(merged[key], value) if is_section else value
    return merged
