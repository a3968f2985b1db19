"""The imbalance of every trial by its strategy."""

from __future__ import annotations

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import add_imbalances, baseline_line, blank, imbalances, log_axis


def draw(study: StudyRecord) -> go.Figure | None:
    trials = [record for record in study.search if record.metrics is not None and study.settings.strategy(record)]
    if not trials:
        return None
    figure = blank()
    add_imbalances(figure, study, trials, study.settings.strategy)
    baseline_line(figure, study)
    figure.update_yaxes(title={"text": "imbalance"}, **log_axis(imbalances(trials)))
    return figure


FIGURE = Figure(
    title="Trials by strategy",
    caption="Look for circles below the dashed line: they keep every guard.",
    section="learned",
    draw=draw,
)
