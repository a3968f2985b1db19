"""A study's report as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import jinja2
from plotly.offline import get_plotlyjs

from results.records.study_record import StudyRecord
from results.report.figures import FIGURES, figure_json
from results.report.figures.style import PALETTE_ON_DARK
from results.report.sections import about, sections
from results.report.sections.parts import moment
from spinlock_dist.atomic_files import write_text
from spinlock_dist.errors import SpinlockError
from spinlock_dist.shown import in_html

PAGE = Path(__file__).parent / "page"


def write_report(path: Path, study: StudyRecord, reload_seconds: int = 0) -> None:
    """Write the report of a study, atomically. Raises `OSError` if that cannot be."""
    write_text(path, render_report(study, reload_seconds, path.parent))


def render_report(study: StudyRecord, reload_seconds: int = 0, beside: Path | None = None) -> str:
    """The report as HTML, for the folder `beside` if that is not the study's own.

    With `reload_seconds` the page loads itself again so often. What cannot be drawn is named in the study's problems.
    """
    drawn, heights = {}, {}
    for name, each in FIGURES.items():
        try:
            figure = each.draw(study)
        except SpinlockError as error:
            study.problems.append(f"figure {name}: {error}")
            continue
        if figure is not None:
            drawn[name], heights[name] = figure_json(figure), figure.layout.height
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, finalize=in_html
    )
    return environment.get_template("report.html").render(
        name=study.name,
        about=about(study),
        sections=sections(study),
        problems=study.problems,
        drawn=drawn,
        heights=heights,
        to_study=_way(study, beside),
        reload_seconds=reload_seconds,
        written=int(datetime.now(UTC).timestamp()),
        as_of=moment(datetime.now(UTC).isoformat(timespec="seconds")),
        figures=FIGURES,
        style=(PAGE / "report.css").read_text(encoding="utf-8"),
        script=(PAGE / "report.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        on_dark=json.dumps(PALETTE_ON_DARK),
    )


def _way(study: StudyRecord, beside: Path | None) -> str:
    """What leads from the page to the study's folder, empty or with `/` at its end, as an address."""
    way = "." if beside is None else os.path.relpath(study.folder.path, beside)
    return "" if way == "." else f"{quote(Path(way).as_posix())}/"
