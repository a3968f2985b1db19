"""What a command may write to: nothing, or what the same command wrote before. Looked at before any work."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spinlock_dist.errors import ConfigError, SpinlockError

MODEL = ("meta.json", "model.safetensors")
"""What every checkpoint has."""
HEAD_BYTES = 4096
"""How much of a file is read to recognize it."""


@dataclass(frozen=True, kw_only=True)
class OutputKind:
    """What a command writes, and how one that is there already is recognized."""

    name: str
    """In words with an article, e.g. `a checkpoint`."""
    is_ours: Callable[[Path], bool]
    """Whether the file or folder there was written by the same command."""
    resembles: Callable[[Path], bool] = lambda _: False
    """Whether it was written by an earlier version or is a damaged one: only `--overwrite` replaces that."""
    others: str = "of an earlier version, or a damaged one"
    """What those are, in words."""
    is_folder: bool = False


def check_output(path: Path, kind: OutputKind, option: str = "--out", overwrite: bool = False) -> None:
    """Raise `ConfigError` unless `path` can be written and holds nothing, or what the same command wrote.

    Devices, pipes, links and folders with files of others are refused whatever is asked for. `option` names the path
    in the message.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} {path}: cannot be written: {_reason(error)}") from None
    if found is not None:
        _check_place(path, kind, found.st_mode, option)
        _check_content(path, kind, option, overwrite)
    _check_folder(path, option)
    _check_writable(path, option)


def _check_folder(path: Path, option: str) -> None:
    """Raise `ConfigError` for a place within a checkpoint, which has its own files alone."""
    holder = next((each for each in path.absolute().parents if all((each / name).exists() for name in MODEL)), None)
    if holder is not None:
        raise ConfigError(f"{option} {path}: lies in the checkpoint {holder}; name a place beside it")


def _check_place(path: Path, kind: OutputKind, mode: int, option: str) -> None:
    if stat.S_ISLNK(mode):
        raise ConfigError(f"{option} {path}: is a link to {os.readlink(path)}; name a place that is none")
    if stat.S_ISDIR(mode) and not kind.is_folder:
        raise ConfigError(f"{option} {path}: is a folder and cannot be written as a file; name a file")
    if not stat.S_ISDIR(mode) and kind.is_folder:
        raise ConfigError(f"{option} {path}: is no folder; {kind.name} is one, name a new one")
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise ConfigError(f"{option} {path}: is a device or a pipe, not a file; name a file")


def _check_content(path: Path, kind: OutputKind, option: str, overwrite: bool) -> None:
    try:
        empty = not any(path.iterdir()) if kind.is_folder else path.stat().st_size == 0
        if empty or kind.is_ours(path) or (overwrite and kind.resembles(path)):
            return
        resembles = kind.resembles(path)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be read: {_reason(error)}") from None
    if resembles:
        raise ConfigError(f"{option} {path}: holds {kind.name} {kind.others}; --overwrite replaces it")
    raise ConfigError(f"{option} {path}: holds something else than {kind.name}; name another place, or move it away")


def _check_writable(path: Path, option: str) -> None:
    """Raise `ConfigError` unless a file can be made in the folder of `path`, or in the nearest one there is."""
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written: {folder}: {_reason(error)}") from None


@contextmanager
def saying_why(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn what keeps a block from writing to `path` into a `SpinlockError` that says why."""
    try:
        yield
    except OSError as error:
        raise SpinlockError(f"{option} {path}: could not be written: {_reason(error)}") from None


def file_head(path: Path) -> str:
    """The first characters of a file; what is not UTF-8 is replaced."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).decode("utf-8", errors="replace")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def html_page(command: str, name: str, earlier: str) -> OutputKind:
    """The HTML that `command` writes and says so in its head; earlier versions of it say `earlier` there."""
    marker = f'<meta name="generator" content="{command}">'
    return OutputKind(
        name=name,
        is_ours=lambda path: marker in file_head(path),
        resembles=lambda path: "<!doctype html>" in file_head(path) and earlier in file_head(path),
    )
