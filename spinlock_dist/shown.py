"""Foreign text on its way to a terminal: names and messages are shown as they are, and nothing in them acts."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control codes, which move cursors and name windows; marks that turn the direction of text; what nobody sees, so that
two names would look like one; halves of letters."""

RESET = "\x1b[0m"
"""Ends all colours. Colorama, which Ray loads, writes it to a terminal when a program ends; alone it does no harm."""


def plain(text: str) -> str:
    """`text` with every character that acts on a terminal written as its escape, e.g. `\\x1b`."""
    return ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def in_html(value: Any) -> Any:
    """A value of a page, its text `plain`: a mark that turns the direction of text does so in a browser too.

    Markup, which a template makes itself, stays as it is.
    """
    return plain(value) if type(value) is str else value


def terminal_console(quiet: bool = False, stderr: bool = False) -> Console:
    """A console of rich's that takes what it is given for text: no markup, no emoji, no control codes."""
    from rich.console import Console
    from rich.text import Text

    class Shown(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            """As rich does, of plain text."""
            return super().render_str(plain(text), **how)

    stream = sys.stderr if stderr else sys.stdout
    # Not the stream that escapes codes: rich writes some of its own.
    file = cast(TextIO, stream.stream) if isinstance(stream, LastingStream) else None
    return Shown(markup=False, emoji=False, highlight=False, quiet=quiet, stderr=stderr, file=file)


class LastingStream:
    """A stream of a command that lives as long as the command: whoever reads it may go, and the work goes on.

    What is printed to it is `plain`.
    """

    def __init__(self, stream: TextIO):
        self.stream = _Lasting(stream)

    def write(self, text: str) -> int:
        """Write plain text."""
        return self.stream.write(text if text == RESET else plain(text))

    @property
    def broken(self) -> bool:
        """Whether something could not be written."""
        return self.stream.broken

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Lasting:
    def __init__(self, stream: TextIO):
        self._stream = stream
        self.broken = False

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._break()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._break()

    def _break(self) -> None:
        """Nobody reads, or the disk is full: from here on all goes nowhere, also what Python still holds at its end."""
        self.broken = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_standard_files() -> None:
    """Open those of 0, 1 and 2 that are closed: else the next file gets the number, and prints would end up in it."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


def lasting(stream: TextIO | None) -> LastingStream:
    """`sys.stdout` or `sys.stderr` made to last, and to write what its encoding cannot as escapes."""
    if stream is None:
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (it is open as long as the command runs)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return LastingStream(stream)
