"""One search-space file: its sections, and the lines for messages about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from search_spaces.space import Categorical, Float, Int, Parameter
from spinlock_dist.config_file import parse_config
from spinlock_dist.documents import read_document
from spinlock_dist.errors import ConfigError, did_you_mean

TYPES: dict[str, type[Parameter]] = {"float": Float, "int": Int, "categorical": Categorical}
SECTIONS = ("description", "extends", "parameters", "fixed", "remove")


class SpaceFile:
    """A YAML file that says which settings vary. Raises `ConfigError` if it is not one, or if a range is impossible."""

    def __init__(self, path: Path):
        self.path = path
        self._tree, self._lines = read_document(path)
        self._check_sections()
        self.description: str = self._tree["description"].strip()
        self.extends: str | None = self._tree.get("extends")
        self.parameters = {name: self._parameter(name, given) for name, given in self._section("parameters").items()}
        self.fixed = self._section("fixed")
        self.removed = [str(name) for name in self._tree.get("remove") or []]

    def fail(self, message: str, *key: str | int) -> NoReturn:
        """Raise a `ConfigError` that names the file and the line of `key`."""
        raise ConfigError(f"{self.where(*key)}: {message}")

    def where(self, *key: str | int) -> str:
        """The file and, as far as it is known, the line of `key`: a path of mapping keys."""
        known = (self._lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self._lines)
        line = next(known, None)
        return f"{self.path}, line {line}" if line else str(self.path)

    def _section(self, name: str) -> dict[str, Any]:
        return {str(key): value for key, value in (self._tree.get(name) or {}).items()}

    def _parameter(self, name: str, given: Any) -> Parameter:
        key = ("parameters", name)
        if not isinstance(given, dict) or "type" not in given:
            self.fail(f"{name}: expected a mapping with type ({', '.join(TYPES)}) and its range", *key)
        kind = TYPES.get(str(given["type"]))
        if kind is None:
            self.fail(f"{name}: unknown type '{given['type']}'{did_you_mean(str(given['type']), TYPES)}", *key, "type")
        options = {str(option): value for option, value in given.items() if option != "type"}
        return parse_config(kind, options, f"{self.where(*key)}: {name}")

    def _check_sections(self) -> None:
        tree = self._tree
        if not isinstance(tree, dict):
            self.fail(f"expected a mapping with {', '.join(SECTIONS)}")
        for key in tree:
            if key not in SECTIONS:
                self.fail(f"unknown section '{key}'{did_you_mean(str(key), SECTIONS)}", str(key))
        if not isinstance(tree.get("description"), str) or not tree["description"].strip():
            self.fail("description must say in a line what the space is for", "description")
        if not isinstance(tree.get("extends"), str | None):
            self.fail("extends must name one search space, or its file", "extends")
        if not isinstance(tree.get("parameters") or {}, dict) or not (tree.get("parameters") or tree.get("extends")):
            self.fail("parameters must map at least one setting to its range", "parameters")
        if not isinstance(tree.get("fixed") or {}, dict):
            self.fail("fixed must map settings to values", "fixed")
        if not isinstance(tree.get("remove") or [], list):
            self.fail("remove must list settings of the space that this one extends", "remove")
        if tree.get("remove") and not tree.get("extends"):
            self.fail("remove takes out what is inherited, and this space extends none", "remove")
