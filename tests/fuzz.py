"""How many inputs the readers are fuzzed with, and the time and memory that any of them may take.

`FUZZ=2000 make test ARGS="-k any_"` tries more inputs than is usual.
"""

from __future__ import annotations

import functools
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 10
MEMORY = 2 * 2**30
"""Bytes, more than the process had before."""
ADDRESSES = 8 * 2**30
"""What may be asked for without being used, as threads do; without a limit an input could take the whole machine."""


class TooSlow(BaseException):
    """No code under test catches it."""


def inputs(usual: int) -> int:
    """Return the number asked for in `FUZZ`, else the usual one."""
    return int(os.environ.get("FUZZ", usual))


def bounded(test: Callable[..., None]) -> Callable[..., None]:
    """Hold that every input of a test takes at most `SECONDS` and `MEMORY`. It stands below `@given`."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with bounds():
            test(*args, **kwargs)

    return run


@contextmanager
def bounds(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """End what takes longer with `TooSlow`, and fail if more memory was in use meanwhile than `memory` bytes."""

    def too_slow(*_: Any) -> None:
        raise TooSlow(f"more than {seconds} s")

    before = _memory("VmRSS")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    handler = signal.signal(signal.SIGALRM, too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + ADDRESSES, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    peak = _memory("VmHWM") - before
    assert peak <= memory, f"{peak / 2**30:.1f} GiB"


def _memory(name: str) -> int:
    """Bytes of memory of this process, by Linux's name for it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
