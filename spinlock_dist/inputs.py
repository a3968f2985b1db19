"""Files that others wrote, before they are opened: only regular files are read; their first bytes say what they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from spinlock_dist.errors import SpinlockError

HEADS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a .npy, a single array without names",
    b"PAR1": "a parquet file",
    b"PK\x03\x04": "a zip archive, as .npz and .xlsx are",
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"CDF": "a NetCDF file of the classic format",
    b"ARROW1": "an Arrow (Feather) file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (git lfs pull fetches it)",
}
"""The first bytes of formats, by which a file under another's name is recognized."""


def require_file(path: Path, error: type[SpinlockError], missing: str = "no such file") -> None:
    """Raise `error` unless `path` is a regular file that may be read: reading a pipe or a device might never end."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            with path.open("rb"):
                return
    except FileNotFoundError:
        raise error(f"{path}: {_dangling(path) or missing}") from None
    except (OSError, ValueError) as reason:  # ValueError: a path with a null character
        raise error(f"{path}: cannot be read: {getattr(reason, 'strerror', None) or reason}") from None
    kind = "a folder; name the file in it" if stat.S_ISDIR(mode) else "a device or a pipe, not a file"
    raise error(f"{path}: is {kind}")


def _dangling(path: Path) -> str:
    return f"is a link to {os.readlink(path)}, which is not there" if path.is_symlink() else ""


def really(path: Path) -> str:
    """What the first bytes of a file say it is, in words; empty if they say nothing."""
    with path.open("rb") as file:
        head = file.read(max(map(len, HEADS)))
    return next((words for start, words in HEADS.items() if head.startswith(start)), "")


def not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """What is wrong with a text that is not UTF-8, and the way out."""
    return f"it is {really(path) or f'not UTF-8 (byte 0x{error.object[error.start]:02x})'}; save it as UTF-8 text"
