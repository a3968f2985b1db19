"""Files and folders that are whole or not there: written beside their place, flushed to disk, renamed.

The only place that replaces anything on disk. Permissions follow the umask.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2(2)."""
NAME_BYTES = 255
"""Of a file's name, at most, on the file systems in use."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` if the block ends without an error.

    Raises `FileExistsError` if a device, a pipe or a folder is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _require(path, stat.S_ISREG, "file")
    draft = _beside(path, str(os.getpid()))
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` to write to; it takes its place if the block ends without an error.

    A process killed at any moment leaves the old folder or the new one. Linux exchanges two folders in one step where
    the file system can; elsewhere (NFS, macOS) the old one steps aside first, and `restore` puts it back if the new one
    never came. Raises `FileExistsError` if something else than a folder is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    restore(folder)
    _require(folder, stat.S_ISDIR, "folder")
    draft = _beside(folder, str(os.getpid()))
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for written in (*draft.rglob("*"), draft):
            _sync(written)
        if not folder.exists():
            draft.rename(folder)
        elif not _exchanged(draft, folder):
            folder.rename(_aside(folder))
            draft.rename(folder)
            shutil.rmtree(_aside(folder))
        _sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def restore(folder: Path) -> None:
    """Put back a folder that stepped aside for a new one which never came; remove what a killed writer left of it."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return _beside(folder, "before")


def _beside(path: Path, ending: str) -> Path:
    """A hidden name beside `path`, which is not too long where that of `path` is not."""
    name = f".{path.name}.{ending}"
    if len(os.fsencode(name)) > NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.{ending}"
    return path.with_name(name)


def _require(path: Path, is_replaceable: Callable[[int], bool], kind: str) -> None:
    """Raise `FileExistsError` if something is at `path` that is not of that kind; a link to one is."""
    if path.exists() and not is_replaceable(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, f"is not a {kind} and is not replaced", str(path))


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where that cannot be done."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as indented JSON, atomically. Raises `ValueError` for a number that is not finite."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def require_regular(path: Path) -> None:
    """Raise `OSError` for what is no file: reading a pipe or a device might never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is a device, a pipe or a folder, not a file", str(path))


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote. Raises `OSError` if it is no file, `ValueError` if it is damaged."""
    require_regular(path)
    return json.loads(path.read_text(encoding="utf-8"))


def digest(folder: Path) -> str:
    """SHA-256 of the files in a folder, by name; empty if there is no such folder."""
    if not folder.is_dir():
        return ""
    sums = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(folder.iterdir())]
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()
