"""Where compiled code is kept, and whether it is there already; told without importing numba, which takes a second."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def cache_folder() -> Path:
    """Folder for compiled code of this version of the package, created if need be.

    The first that can be written: numba's own setting, the package's `__pycache__`, the user's cache, and a folder for
    this user alone under the temporary one. Numba keeps what it compiled by the source file of the entry point; the
    name here also depends on the other files of this package, which entry points are compiled together with.
    """
    own = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(own.glob("*.py")))
    name = f"spinlock_dist-{hashlib.sha256(sources + version('numba').encode()).hexdigest()[:16]}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for base in (*([Path(given)] if given else ()), own / "__pycache__", Path(user)):
        if _writable(base / name):
            return base / name
    # What is read from the cache is run: nobody else may have made the folder, or may write to it.
    private = Path(tempfile.gettempdir()) / f"spinlock_dist-{os.getuid()}"
    if _private(private) and _writable(private / name):
        return private / name
    return Path(tempfile.mkdtemp(prefix="spinlock_dist-"))


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and status.st_mode & 0o777 == 0o700 and not folder.is_symlink()


def is_complete() -> bool:
    """Whether every entry point has been compiled for this kind of processor."""
    return _marker().exists()


def mark_complete() -> None:
    """Note that every entry point has been compiled."""
    _marker().touch()


def _marker() -> Path:
    """Compiled code is for one kind of processor: that of its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        kind = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        kind = f"{platform.machine()} {platform.processor()}"
    return cache_folder() / f"complete-{hashlib.sha256(kind.encode()).hexdigest()[:16]}"
