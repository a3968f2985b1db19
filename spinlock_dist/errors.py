"""Errors a user can cause, and the one place where a command turns them into a message and an exit code."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn, TextIO, cast

from spinlock_dist.shown import lasting, open_standard_files

USAGE = 2
FAILURE = 1


class SpinlockError(Exception):
    """A failure to report in a line or two, without a traceback. `exit_code` is what a command returns."""

    exit_code = FAILURE


class ConfigError(SpinlockError):
    """A setting is unknown, ill-typed or contradicts another."""

    exit_code = USAGE


class DataError(SpinlockError):
    """A dataset is missing, unreadable or cannot be learned from."""

    exit_code = USAGE


class CheckpointError(SpinlockError):
    """A checkpoint is incomplete, damaged or of another version."""


class DivergedError(SpinlockError):
    """Training met a non-finite number. The weights are those of the last finite step.

    Attributes: `epoch`, the one that failed, counted from 1; `term`, the loss term,
    gradient or metric that was not finite.
    """

    def __init__(self, epoch: int, term: str):
        super().__init__(epoch, term)  # both arguments, so that the exception survives pickling
        self.epoch = epoch
        self.term = term

    def __str__(self) -> str:
        return f"diverged in epoch {self.epoch}: {self.term} is not finite; lower training.learning_rate"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, the list of names when none is near, or nothing."""
    names = sorted(known)
    if not names:
        return ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"


def run_command(command: Callable[[], int | None]) -> NoReturn:
    """Run `command` as a program: a `SpinlockError` becomes its message on stderr and its exit code.

    Work goes on although nobody reads what is printed any more; the exit code says so. SIGTERM, and SIGHUP unless it is
    ignored, end it as Ctrl-C does, so that no half-written file is left.
    """
    open_standard_files()
    for stop in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) == signal.SIG_DFL:
            signal.signal(stop, signal.default_int_handler)
    before = sys.stdout, sys.stderr
    out, err = lasting(sys.stdout), lasting(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        code = command() or 0
    except SpinlockError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    finally:
        out.flush()
        sys.stdout, sys.stderr = before
    sys.exit(code or (FAILURE if out.broken else 0))
