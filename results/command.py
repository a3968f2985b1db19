"""What the commands on studies share: their options, and reading a study with its problems on stderr."""

from __future__ import annotations

import argparse
import functools
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from spinlock_dist.command import command_parser
from spinlock_dist.errors import SpinlockError

if TYPE_CHECKING:
    from results.records.study_record import StudyRecord


Command = Callable[..., int]
"""The `main` of a command: arguments to exit code."""


def study_parser(command: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m <command>`, with `--runs`."""
    parser = command_parser(command, description, examples)
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    return parser


def explains_damage(main: Command) -> Command:
    """A command that only reads a study: what damage makes it stumble over becomes a line with the place."""

    @functools.wraps(main)
    def explained(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except OSError as error:
            where, reason = error.filename or "a file of the study", error.strerror or error
            raise SpinlockError(f"{where}: cannot be read: {reason}; restore it from a copy") from error
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())[:200]
            raise SpinlockError(
                f"a file of the study is damaged, or of another version ({type(error).__name__}: {said}, met in "
                f"{Path(frame.filename).name}:{frame.lineno}); restore it from a copy"
            ) from error

    return explained


def read_named(runs: Path, name: str) -> StudyRecord:
    """A study without its curves and codebooks; each problem with it becomes a line on stderr.

    Raises `ConfigError` if there is no such study, or not even its study.yaml can be read.
    """
    from results.records.study_folder import open_study
    from results.records.study_record import read_study

    study = read_study(open_study(runs, name), details=False)
    for problem in study.problems:
        print(f"{name}: {problem}", file=sys.stderr)
    return study
