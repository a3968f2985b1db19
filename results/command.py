"""What the commands on finished or running studies share: how a study is named, read, and its damage told."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.records.study_record import StudyRecord


def command_parser(command: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Return the parser of `python -m results.<command>`, with the option that says where studies are."""
    parser = argparse.ArgumentParser(
        prog=f"python -m results.{command}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    return parser


def read_named(runs: Path, name: str) -> StudyRecord:
    """Return what a study has left, curves and codebooks apart; each problem with it is a line on stderr.

    Raises `ConfigError` if there is no such study, or not even its study.yaml can be read.
    """
    from results.records.study_folder import open_study
    from results.records.study_record import read_study

    study = read_study(open_study(runs, name), details=False)
    for problem in study.problems:
        print(f"{name}: {problem}", file=sys.stderr)
    return study
