"""When each trial ran, in lanes: no two in a lane overlap."""

from __future__ import annotations

from datetime import datetime, timedelta

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, PATTERNS, blank, group_of, told


def draw(study: StudyRecord) -> go.Figure | None:
    trials = [record for record in study.search if record.attempts and record.seconds]
    if not trials:
        return None
    spans = sorted(((_began(record), record) for record in trials), key=lambda each: each[0])
    lanes: list[datetime] = []
    figure = blank(barmode="overlay")
    bars: dict[str, list[tuple[datetime, float, str, str]]] = {}
    for start, record in spans:
        lane = next((place for place, free in enumerate(lanes) if free <= start), len(lanes))
        lanes[lane : lane + 1] = [start + timedelta(seconds=record.seconds)]
        bars.setdefault(group_of(record), []).append((start, record.seconds, f"lane {lane + 1}", told(record, study)))
    for group, found in bars.items():
        figure.add_bar(
            base=[start for start, *_ in found],
            x=[1000 * seconds for _, seconds, *_ in found],
            y=[lane for *_, lane, _ in found],
            text=[text for *_, text in found],
            textposition="none",
            hoverinfo="text",
            orientation="h",
            name=group,
            marker={"color": COLOURS[group], "line": {"width": 1}, "pattern": {"shape": PATTERNS[group]}},
        )
    figure.update_layout(height=150 + 26 * min(len(lanes), 64))
    figure.update_xaxes(type="date", title={"text": "UTC"})
    figure.update_yaxes(autorange="reversed")
    return figure


def _began(record: TrialRecord) -> datetime:
    """When the last attempt at a trial began."""
    return datetime.fromisoformat(record.attempts[-1].began)


FIGURE = Figure(
    title="When each trial ran",
    caption="Look for gaps, when nothing ran, and for lanes that end early.",
    section="course",
    draw=draw,
)
