"""Finds search spaces, by name or by path, and the spaces they extend."""

from __future__ import annotations

from pathlib import Path

from search_spaces.draft import Draft
from search_spaces.file import SpaceFile
from search_spaces.space import SearchSpace
from spinlock_dist.errors import ConfigError, did_you_mean

PRESETS = Path(__file__).parent


def preset_names() -> list[str]:
    """The names of the search spaces that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_space(name_or_path: str | Path) -> SearchSpace:
    """Read a preset by name, or a YAML file by path, and check that every config in it can be run.

    A space that `extends` another starts from that one's entries and puts its own over them. Raises `ConfigError`
    naming the file, the line and, for a misspelt name, the nearest known one.
    """
    draft = Draft()
    for file in _lineage(SpaceFile(_locate(name_or_path, Path()))):
        draft.put(file)
    return draft.space()


def _locate(name_or_path: str | Path, folder: Path) -> Path:
    name, path = " ".join(str(name_or_path).split()), folder / name_or_path  # what is refused fits in a line
    if name in preset_names():
        return PRESETS / f"{name}.yaml"
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise ConfigError(
        f"no search space '{name}'{did_you_mean(name, preset_names())} (or give the path of a .yaml file)"
    )


def _lineage(file: SpaceFile) -> list[SpaceFile]:
    """`file` and before it all that it extends, the farthest first."""
    lineage = [file]
    while (extends := lineage[0].extends) is not None:
        child = lineage[0]
        try:
            parent = SpaceFile(_locate(extends, child.path.parent))
        except ConfigError as error:
            child.fail(f"extends: {error}", "extends")
        if any(parent.path.resolve() == each.path.resolve() for each in lineage):
            child.fail(f"extends: '{extends}' is this space, or extends it in turn", "extends")
        lineage.insert(0, parent)
    return lineage
