"""Tables for terminals of any width: a column that has no room is left out, and no figure is ever cut short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table


@dataclass(frozen=True)
class Column:
    """A column: `name` is its heading."""

    name: str
    place: int = 0
    """Its place in the queue for room; those with 0 are always shown."""
    left: bool = False
    """Text begins at the left; figures end at the right."""
    wraps: int = 0
    """Least width of text that may go on in a further line; 0 for what may not."""
    eases: int = 0
    """The width that such text has before columns after it in the queue are taken in."""


NAMES = 12
"""Least width of a column of names, which may go on in a further line."""
ROOMY = 60
"""Width from which there are two spaces between columns, not one."""


class FittedTable:
    """A table of those of its columns that the terminal has room for."""

    def __init__(
        self, columns: Sequence[Column], title: str = "", caption: Callable[[Sequence[str]], str] = lambda names: ""
    ):
        """`caption` makes the text below the table from the names of the columns that are shown."""
        self._columns = tuple(columns)
        self._title = title
        self._caption = caption
        self._rows: list[tuple[tuple[str, ...], str, bool]] = []

    def add_row(self, *cells: str, style: str = "", last: bool = False) -> None:
        """Add a row, in a style of rich's; with `last` there is a gap before the next."""
        self._rows.append((cells, style, last))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Take columns in as long as there is room, in the order of their places."""
        gap = 2 if options.max_width >= ROOMY else 1
        taken: list[Column] = []
        for column in sorted(self._columns, key=lambda column: column.place):
            width = self._least(column) + sum(max(each.eases, self._least(each)) + gap for each in taken)
            if width <= options.max_width or not column.place:
                taken.append(column)
        yield self._table([column for column in self._columns if column in taken], gap)

    def _least(self, column: Column) -> int:
        from rich.cells import cell_len

        place = self._columns.index(column)
        texts = [column.name] if column.wraps else [column.name, *(cells[place] for cells, *_ in self._rows)]
        return max(column.wraps, *(cell_len(line) for text in texts for line in text.split("\n")))

    def _table(self, shown: Sequence[Column], gap: int) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(title=self._title or None, box=SIMPLE_HEAD, show_edge=False, title_justify="left")
        table.padding = (0, gap - 1, 0, 0)  # the box has a space between columns too
        table.caption = self._caption([column.name for column in shown]) or None
        table.caption_justify = "left"
        for column in shown:
            table.add_column(
                column.name,
                justify="left" if column.left else "right",
                no_wrap=not column.wraps,
                min_width=self._least(column),
                overflow="fold",
            )
        places = [self._columns.index(column) for column in shown]
        for cells, style, last in self._rows:
            table.add_row(*(cells[place] for place in places), style=style, end_section=last)
        return table


def table_of_figures(title: str, first: str, others: Sequence[str], stays: Sequence[str] = ()) -> FittedTable:
    """A table of names, under the heading `first`, and figures: where it is narrow `stays`, and the first others."""
    columns = [Column(name, place=0 if name in stays else place) for place, name in enumerate(others, start=1)]
    return FittedTable([Column(first, left=True, wraps=NAMES), *columns], title)
