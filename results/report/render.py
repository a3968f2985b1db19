"""A study's report as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from results.records.study_record import StudyRecord
from results.report.figures import FIGURES, figure_json
from results.report.figures.style import PALETTE_ON_DARK
from results.report.sections import about, sections
from spinlock_dist.atomic_files import write_text
from spinlock_dist.errors import SpinlockError
from spinlock_dist.shown import in_html

PAGE = Path(__file__).parent / "page"


def write_report(path: Path, study: StudyRecord) -> None:
    """Write the report of a study, atomically. Raises `OSError` if that cannot be."""
    write_text(path, render_report(study))


def render_report(study: StudyRecord) -> str:
    """The report as HTML. What cannot be drawn is named in the study's problems."""
    drawn = {}
    for name, each in FIGURES.items():
        try:
            figure = each.draw(study)
        except SpinlockError as error:
            study.problems.append(f"figure {name}: {error}")
            continue
        if figure is not None:
            drawn[name] = figure_json(figure)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, finalize=in_html
    )
    return environment.get_template("report.html").render(
        name=study.name,
        about=about(study),
        sections=sections(study),
        problems=study.problems,
        drawn=drawn,
        figures=FIGURES,
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=(PAGE / "report.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        on_dark=json.dumps(PALETTE_ON_DARK),
    )
