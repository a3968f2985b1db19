"""How far a command has come with its rows: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int | None], None]
"""Takes how many are done, and of how many; None if that is not known."""
LINE_EVERY = 100_000
"""Rows from one plain line to the next where their number is not known."""


@contextmanager
def row_progress(doing: str, done: str, what: str) -> Iterator[Progress]:
    """Draw a bar on a terminal; elsewhere print a plain line at every tenth, e.g. `simulated 10 of 100 operators`."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from spinlock_dist.shown import terminal_console

    console = terminal_console(stderr=True)
    if not console.is_terminal:
        yield _plain_progress(done, what)
        return
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda rows, total: bar.update(task, completed=rows, total=total)


def _plain_progress(done: str, what: str) -> Progress:
    printed = 0

    def show(rows: int, total: int | None) -> None:
        nonlocal printed
        step = rows // LINE_EVERY if total is None else 10 * rows // max(total, 1)
        if step > printed:
            printed = step
            of = "" if total is None else f" of {total}"
            print(f"{done} {rows}{of} {what}", file=sys.stderr, flush=True)

    return show
