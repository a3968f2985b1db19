"""python -m results.report NAME: what a study found, as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from results.command import explains_damage, study_parser
from spinlock_dist.command import add_overwrite
from spinlock_dist.errors import ConfigError
from spinlock_dist.outputs import check_output, html_page

if TYPE_CHECKING:
    from results.records.study_folder import StudyFolder

LIVE_SECONDS = 20
EXAMPLES = """examples:
  python -m results.report operators                       write runs/operators/report.html
  python -m results.report operators --out report.html     somewhere else; also while the study runs
  python -m results.report operators --live                anew every 20 s while it runs; the open page follows
"""

REPORT = html_page("results.report", "a report", ": study report</title>")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    description = "Write what a study found as one HTML file; also of a study that runs or was interrupted."
    parser = study_parser("results.report", description, EXAMPLES)
    parser.add_argument("name", help="study")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="HTML file (default: report.html in the study's folder)"
    )
    parser.add_argument(
        "--live",
        nargs="?",
        type=_seconds,
        const=LIVE_SECONDS,
        metavar="SECONDS",
        help=f"write it anew every SECONDS (default: {LIVE_SECONDS}) while the study runs; the page reloads itself",
    )
    parser.add_argument(
        "--diagnose",
        action="store_true",
        help="also write the diagnoses that it leads to, where they are missing: needs the dataset",
    )
    add_overwrite(parser)
    return parser


@explains_damage
def main(argv: list[str] | None = None) -> int:
    """Parse, read, write."""
    args = make_parser().parse_args(argv)
    from results.records.study_folder import open_study

    folder = open_study(args.runs, args.name)
    path = args.out or folder.report
    check_output(path, REPORT, overwrite=args.overwrite or args.out is None)
    if args.live is not None:
        _follow(folder, path, args.live)
    for problem in _write(folder, path, diagnose=args.diagnose):
        print(problem)
    print(f"report: {path}")
    return 0


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"give a whole number of seconds, found '{text}'")
    return int(text)


def _follow(folder: StudyFolder, path: Path, seconds: int) -> None:
    """Write the report again and again until the study no longer runs, or until interrupted.

    What is written last reloads itself: whoever calls this writes it once more.
    """
    told = False
    with suppress(KeyboardInterrupt):
        while folder.is_running:
            began = time.monotonic()
            _write(folder, path, reload_seconds=seconds)
            if not told:
                print(f"report: {path}, anew every {seconds} s while the study runs (Ctrl-C ends it)", flush=True)
                told = True
            took = time.monotonic() - began
            _wait(folder, max(seconds - took, took))


def _wait(folder: StudyFolder, seconds: float) -> None:
    """Wait so long, or until the study has ended."""
    until = time.monotonic() + seconds
    while folder.is_running and (left := until - time.monotonic()) > 0:
        time.sleep(min(1.0, left))


def _write(folder: StudyFolder, path: Path, reload_seconds: int = 0, diagnose: bool = False) -> list[str]:
    """Write the report as the study stands, and return the problems met."""
    from results.records.study_record import read_study
    from results.report.diagnoses import write_diagnoses
    from results.report.render import write_report

    study = read_study(folder)
    problems = write_diagnoses(study) if diagnose else []
    try:
        write_report(path, study, reload_seconds)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; name another file with --out") from None
    return problems + study.problems
