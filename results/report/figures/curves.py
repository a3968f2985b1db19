"""The worst category's FVU of every trial over its training; stopped trials are faded."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, baseline_name, blank, grouped, log_axis


def draw(study: StudyRecord) -> go.Figure | None:
    trials = [record for record in study.search if len(record.learning_curve) > 1]
    if not trials:
        return None
    figure = blank()
    best = study.best
    for group, records in reversed(grouped([record for record in trials if record is not best])):
        x, y = _joined(records)
        line = {"color": COLOURS[group], "width": 1, "dash": "dot" if group == "stopped" else "solid"}
        opacity = 0.35 if group == "stopped" else 0.7
        figure.add_scatter(x=x, y=y, mode="lines", name=group, line=line, opacity=opacity, hoverinfo="skip")
    looks = ((baseline_name(study), study.phase("baseline"), "baseline"), ("best", [best] if best else [], "best"))
    for label, looked_at, colour in looks:
        x, y = _joined([record for record in looked_at if record.learning_curve])
        if x:
            line = {"color": COLOURS[colour], "width": 3, "dash": "dash" if colour == "baseline" else "solid"}
            figure.add_scatter(x=x, y=y, mode="lines", name=label, line=line)
    figure.update_xaxes(title={"text": "epochs of its own training (pilots not counted)"})
    shown = [*trials, *study.phase("baseline")]
    worst = [report.get("fvu_worst") for record in shown for report in record.learning_curve]
    figure.update_yaxes(title={"text": "FVU of the worst category"}, **log_axis(worst))
    return figure


def _joined(records: Sequence[TrialRecord]) -> tuple[list[float | None], list[float | None]]:
    """The curves of trials as one line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for record in records:
        x += [report.get("trained", report["epoch"]) for report in record.learning_curve] + [None]
        y += [report.get("fvu_worst") for report in record.learning_curve] + [None]
    return x[:-1], y[:-1]


FIGURE = Figure(
    title="Learning curves",
    caption="Lines that still fall at the right were trained too briefly. Faded ones were stopped early.",
    section="learned",
    draw=draw,
)
