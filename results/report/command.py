"""python -m results.report NAME: what a study found, as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from spinlock_dist.errors import ConfigError, SpinlockError

if TYPE_CHECKING:
    from results.records.study_record import StudyRecord

PAGE = Path(__file__).parent / "page"
EXAMPLES = """examples:
  python -m results.report operators                       write runs/operators/report.html
  python -m results.report operators --out report.html     somewhere else; also while the study runs
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, read, write."""
    parser = argparse.ArgumentParser(
        prog="python -m results.report",
        description="Write what a study found as one HTML file; also of a study that runs or was interrupted.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="study")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="HTML file (default: report.html in the study's folder)"
    )
    args = parser.parse_args(argv)
    from results.records.study_folder import open_study
    from results.records.study_record import read_study

    folder = open_study(args.runs, args.name)
    study = read_study(folder)
    path = args.out or folder.report
    try:
        write_report(path, study)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; name another file with --out") from None
    for problem in study.problems:
        print(problem)
    print(f"report: {path}")
    return 0


def write_report(path: Path, study: StudyRecord) -> None:
    """Write the report of a study, atomically. Raises `OSError` if that cannot be."""
    from spinlock_dist.atomic_files import write_text

    write_text(path, render_report(study))


def render_report(study: StudyRecord) -> str:
    """Return the report as HTML. What cannot be drawn or said is named in the study's problems."""
    import jinja2
    from plotly.offline import get_plotlyjs

    from results.report.plots import PLOTS, figure_json
    from results.report.plots.style import PALETTE_ON_DARK
    from results.report.sections import about, sections

    figures = {}
    for name, plot in PLOTS.items():
        try:
            figure = plot.draw(study)
        except SpinlockError as error:
            study.problems.append(f"plot {name}: {error}")
            continue
        if figure is not None:
            figures[name] = figure_json(figure)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        name=study.name,
        about=about(study),
        sections=sections(study),
        problems=study.problems,
        figures=figures,
        plots=PLOTS,
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=(PAGE / "report.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        on_dark=json.dumps(PALETTE_ON_DARK),
    )
