"""What a section of the report consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MOST_ROWS = 200
"""Trials in a table of the report, the best ones."""


@dataclass(frozen=True)
class Cell:
    """A number in a table: the text shown, and the value sorted by."""

    text: str
    sort: float


@dataclass(frozen=True)
class Table:
    """A table that a reader can sort; `words` are the columns that hold text."""

    caption: str
    heads: tuple[str, ...]
    rows: list[list[Cell | str | None]]
    words: tuple[int, ...] = ()
    wraps: bool = False
    """Whether numbers may break into lines, an interval below its figure: for tables of many columns."""


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Link:
    """A page in the study's folder."""

    label: str
    address: str
    """Relative to the study's folder."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question, and the study's answer."""

    title: str
    verdict: str = ""
    tone: str = ""
    """`better`, `worse` or nothing: how the verdict is coloured."""
    texts: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """Texts after the tiles: why."""
    links: list[Link] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Texts after the links: the small print."""
    code: str = ""
    tables: list[Table] = field(default_factory=list)


def moment(written: str) -> str:
    """An ISO 8601 time for people, e.g. `28 November 2026, 17:19 UTC`; as it is written if it is none."""
    try:
        when = datetime.fromisoformat(written)
    except ValueError:
        return written
    if when.tzinfo is None:
        return f"{when.day} {when:%B %Y, %H:%M}"
    return f"{when.astimezone(UTC).day} {when.astimezone(UTC):%B %Y, %H:%M} UTC"


def plain(value: Any) -> str:
    """A setting or version as text, empty if there is none."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
