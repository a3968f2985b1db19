"""python -m results.report NAME: what a study found, as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from results.command import explains_damage, study_parser
from spinlock_dist.command import add_overwrite
from spinlock_dist.errors import ConfigError
from spinlock_dist.outputs import check_output, html_page

EXAMPLES = """examples:
  python -m results.report operators                       write runs/operators/report.html
  python -m results.report operators --out report.html     somewhere else; also while the study runs
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
    add_overwrite(parser)
    return parser


@explains_damage
def main(argv: list[str] | None = None) -> int:
    """Parse, read, write."""
    args = make_parser().parse_args(argv)
    from results.records.study_folder import open_study
    from results.records.study_record import read_study
    from results.report.render import write_report

    folder = open_study(args.runs, args.name)
    path = args.out or folder.report
    check_output(path, REPORT, overwrite=args.overwrite or args.out is None)
    study = read_study(folder)
    try:
        write_report(path, study)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; name another file with --out") from None
    for problem in study.problems:
        print(problem)
    print(f"report: {path}")
    return 0
