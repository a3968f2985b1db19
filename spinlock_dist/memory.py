"""Memory is looked at before it is asked for: a small file may declare more than the machine has."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from spinlock_dist.errors import SpinlockError

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 of control groups says no limit by a number near 2 ** 63."""


def require_memory(needed: int, what: str, error: type[SpinlockError], instead: str) -> None:
    """Raise `error` with the size if `what` takes more than the process can have, in bytes."""
    free = available_memory()
    if needed > free:
        raise error(f"{what} would need {in_words(needed)} of memory, {in_words(free)} are free; {instead}")


def available_memory() -> int:
    """The bytes this process can still have: the least that the machine, its container and its own limit leave."""
    return max(0, min(_machine(), _container(), _own_limit()))


def in_words(size: int) -> str:
    """A number of bytes with its unit."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size} bytes"
        size = size / 1000  # type: ignore[assignment]
    raise AssertionError


def _machine() -> int:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    with suppress(OSError, ValueError):  # macOS: all there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return UNLIMITED


def _container() -> int:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such file, or `max`
            most = int((CGROUP / limit).read_text())
            return most - int((CGROUP / used).read_text()) if most < UNLIMITED else UNLIMITED
    return UNLIMITED


def _own_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    with suppress(OSError, ValueError):
        return soft - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return soft
