"""What the commands on studies share: their options, and reading a study with its problems on stderr."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spinlock_dist.command import command_parser

if TYPE_CHECKING:
    from results.records.study_record import StudyRecord


def study_parser(command: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m <command>`, with `--runs`."""
    parser = command_parser(command, description, examples)
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    return parser


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
