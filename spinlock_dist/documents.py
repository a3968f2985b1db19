"""YAML and JSON as they are written: keys keep their names, numbers their value, and no file takes the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from spinlock_dist.errors import ConfigError
from spinlock_dist.inputs import not_utf8, require_file
from spinlock_dist.parsing import Lines

YAML_BYTES, JSON_BYTES = 4_000_000, 64_000_000
"""Larger files are refused; parsing YAML takes some hundred times their size."""
DEEPEST = 100
MOST_NODES = 100_000
"""Keys and values of a YAML file once its aliases and merges are written out."""
MOST_DIGITS = 100
"""Of a whole number: far more than any setting takes, and fewer than Python refuses to print."""
MOST_DIRECTIVES = 100
"""The parser compares each with all before it."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built


class _AsWritten(_Base):  # type: ignore[misc]
    """YAML with its keys as text and without numbers of two meanings."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        """The mapping with every key as it is written: `no`, `1` and `1.0` are names like any other."""
        self.flatten_mapping(node)
        return {_text(key): self.construct_object(value, deep=True) for key, value in node.value}

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number. Raises `yaml.MarkedYAMLError` for one that YAML 1.1 takes for octal or for minutes and seconds."""
        text = node.value
        if len(text) > MOST_DIGITS and not node.tag.endswith("float"):
            raise yaml.MarkedYAMLError(problem=_too_long(text), problem_mark=node.start_mark)
        make = self.construct_yaml_float if node.tag.endswith("float") else self.construct_yaml_int
        if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
            plain = "" if ":" in text else f"{int(text.replace('_', ''))} or "
            raise yaml.MarkedYAMLError(
                problem=f'{text} would be read as {make(node)}: write {plain}{make(node)}, or "{text}" if it is a name',
                problem_mark=node.start_mark,
            )
        return make(node)

    def construct_bool(self, node: yaml.ScalarNode) -> bool:
        """Yes or no. Raises `yaml.MarkedYAMLError` for another word that is said to be one of them."""
        if node.value.lower() not in self.bool_values:
            raise yaml.MarkedYAMLError(problem=f"{node.value} is neither true nor false", problem_mark=node.start_mark)
        return bool(self.construct_yaml_bool(node))

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """A text, its letters whole."""
        return _text(node)


_AsWritten.add_constructor("tag:yaml.org,2002:int", _AsWritten.construct_number)
_AsWritten.add_constructor("tag:yaml.org,2002:float", _AsWritten.construct_number)
_AsWritten.add_constructor("tag:yaml.org,2002:bool", _AsWritten.construct_bool)
_AsWritten.add_constructor("tag:yaml.org,2002:str", _AsWritten.construct_text)
_AsWritten.add_constructor("tag:yaml.org,2002:timestamp", _AsWritten.construct_text)


def read_document(path: str | Path) -> tuple[Any, Lines]:
    """The content of a YAML or JSON file and the 1-based line of every key path in it.

    Raises `ConfigError` if the file is missing, no regular file, too large, not text, neither of both, gives a key
    twice, or has a number that YAML reads as another than is written.
    """
    path = Path(path)
    require_file(path, ConfigError)
    is_json = path.suffix.lower() == ".json"
    size, most = path.stat().st_size, JSON_BYTES if is_json else YAML_BYTES
    if size > most:
        raise ConfigError(f"{path}: has {size / 1e6:.0f} MB, more than the {most / 1e6:.0f} MB of any config")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: {not_utf8(path, error)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if is_json or text.lstrip()[:1] in ("{", "["):
        try:
            return _read_json(text, str(path)), _lines_of_json(text)
        except ValueError as error:
            if is_json:
                line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
                raise ConfigError(f"{path}{line}: not valid JSON: {str(error).splitlines()[0]}") from None
    return read_text(text, str(path))


def read_text(text: str, source: str) -> tuple[Any, Lines]:
    """The content of YAML and the line of every key path. Raises `ConfigError`, naming `source`, if it is wrong."""
    lines: Lines = {}
    try:
        _require_bounds(text, source)
        loader = _AsWritten(text)
        root: yaml.Node | None = loader.get_single_node()
        if root is None:
            return None, lines
        if _weight(root, {}, set()) > MOST_NODES:
            raise _too_many(source)
        _collect_lines(root, (), lines, set())
        return loader.construct_document(root), lines
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}: not valid YAML: {said}") from None


def _require_bounds(text: str, source: str) -> None:
    """Raise `ConfigError` for YAML too large or nested too deeply: composing it calls itself for every level."""
    if len(re.findall(r"^%", text, re.MULTILINE)) > MOST_DIRECTIVES:
        raise ConfigError(f"{source}: not valid YAML: more than {MOST_DIRECTIVES} lines of directives (%)")
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_AsWritten)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{source}: not valid YAML: nested too deeply")
        if count > 2 * MOST_NODES:
            raise _too_many(source)


def _too_long(digits: str) -> str:
    return f"a number of {len(digits)} digits; the longest that is read has {MOST_DIGITS}"


def _too_many(source: str) -> ConfigError:
    return ConfigError(
        f"{source}: more than {MOST_NODES} keys and values, once aliases and merges are written out: too many for a "
        "config; a mapping of so many features may be a .json file"
    )


def _weight(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """How many keys and values a node stands for, with what it is an alias of counted at every place."""
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem="an alias that holds itself", problem_mark=node.start_mark)
    if id(node) not in known:
        inner = above | {id(node)} if not isinstance(node, yaml.ScalarNode) else above
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_weight(part, known, inner) for part in parts)
    return known[id(node)]


def _collect_lines(node: yaml.Node, path: tuple[Any, ...], lines: Lines, seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, _text(key))
            if inner in lines and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect_lines(item, (*path, index), lines, seen)


def _text(node: yaml.Node) -> str:
    """The text of a scalar. Letters beyond the basic plane may be written as two escapes, as JSON writes them."""
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(problem="a key must be a name", problem_mark=node.start_mark)
    try:
        return str(node.value.encode("utf-16", "surrogatepass").decode("utf-16"))
    except UnicodeDecodeError:
        raise yaml.MarkedYAMLError(
            problem="half of a letter (a lone surrogate)", problem_mark=node.start_mark
        ) from None


def _read_json(text: str, source: str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(items)
        if len(content) < len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{source}: not valid JSON: '{twice}' is given twice in one object")
        return content

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise ConfigError(f"{source}: not valid JSON: {_too_long(digits)}")
        return int(digits)

    try:
        tree = json.loads(text, object_pairs_hook=pairs, parse_int=whole)
        json.dumps(tree, ensure_ascii=False).encode()
    except RecursionError:
        raise ConfigError(f"{source}: not valid JSON: nested too deeply") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{source}: not valid JSON: half of a letter (a lone surrogate)") from None
    return tree


def _lines_of_json(text: str) -> Lines:
    """The lines of keys in JSON, which is YAML but for its tabs; none where that is too much or not so."""
    lines: Lines = {}
    if len(text) > YAML_BYTES:
        return lines
    try:
        text = text.replace("\t", " ")
        _require_bounds(text, "")
        root = yaml.compose(text, Loader=_AsWritten)
        if root is not None:
            _collect_lines(root, (), lines, set())
    except (yaml.YAMLError, ConfigError, ValueError):
        return {}
    return lines
