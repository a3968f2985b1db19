"""Imbalance against mean FVU, utilization as size, with the front of the feasible trials."""

from __future__ import annotations

import plotly.graph_objects as go

from results.analysis.importance import scored
from results.analysis.pareto import front
from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, baseline_name, blank, grouped, imbalances, log_axis, marker, told


def draw(study: StudyRecord) -> go.Figure | None:
    trials = scored(study.search)
    if not trials:
        return None
    figure = blank()
    for group, records in grouped(trials):
        figure.add_scatter(
            x=[record.metrics.estimate("imbalance") for record in records if record.metrics],
            y=[record.metrics.estimate("fvu_mean") for record in records if record.metrics],
            mode="markers",
            name=group,
            marker={**marker(group), "size": [4 + 8 * r.metrics.utilization for r in records if r.metrics]},
            text=[told(record, study) for record in records],
            hoverinfo="text",
        )
    # Of the front, the trials that none beats in the two scores drawn here; the others are on it for their utilization.
    best = [record.metrics for record in front(trials) if record.metrics]
    edge = [
        each
        for place, each in enumerate(best)
        if all(each.estimate("fvu_mean") < other.estimate("fvu_mean") for other in best[:place])
    ]
    figure.add_scatter(
        x=[metrics.estimate("imbalance") for metrics in edge],
        y=[metrics.estimate("fvu_mean") for metrics in edge],
        mode="lines",
        line={"color": COLOURS["best"], "dash": "dot"},
        name="Pareto front",
        hoverinfo="skip",
    )
    if seeds := [record.metrics for record in study.phase("baseline") if record.metrics]:
        figure.add_scatter(
            x=[metrics.estimate("imbalance") for metrics in seeds],
            y=[metrics.estimate("fvu_mean") for metrics in seeds],
            mode="markers",
            name=baseline_name(study),
            marker={"symbol": "star", "size": 14, "color": COLOURS["baseline"]},
        )
    figure.update_xaxes(title={"text": "imbalance"}, **log_axis(imbalances([*trials, *study.phase("baseline")])))
    figure.update_yaxes(title={"text": "mean FVU"})
    return figure


FIGURE = Figure(
    title="Balance against mean error",
    caption="Left and low is better. Larger marks use more of their codes; crosses break a guard.",
    section="learned",
    draw=draw,
)
