"""The FVU of every category, best trial against baseline, as a dumbbell."""

from __future__ import annotations

import plotly.graph_objects as go

from results.analysis.category_words import described, labelled
from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import (
    BREAK,
    COLOURS,
    baseline_name,
    best_and_baseline,
    best_name,
    blank,
    log_axis,
    outlined,
)


def draw(study: StudyRecord) -> go.Figure | None:
    pair = best_and_baseline(study)
    if pair is None:
        return None
    ours, base = pair
    names = sorted(base.fvu, key=lambda name: base.fvu[name])
    figure = blank(height=140 + 18 * len(names))
    for name in names:
        figure.add_shape(
            type="line",
            x0=base.fvu[name],
            x1=ours.fvu[name],
            y0=name,
            y1=name,
            line={"color": COLOURS["stopped"]},
            layer="below",
        )
    seeds = [record.metrics for record in study.phase("baseline") if record.metrics]
    for label, trainings, colour, symbol in (
        (baseline_name(study), seeds, "baseline", "circle-open"),
        (best_name(study), [ours], "best", "circle"),
    ):
        figure.add_scatter(
            x=[metrics.fvu[name] for metrics in trainings for name in names],
            y=names * len(trainings),
            mode="markers",
            name=label,
            marker=outlined(colour, symbol),
            text=[
                f"{name}: FVU {metrics.fvu[name]:.3f}{BREAK}{described(study.categories.get(name, ()), most=6)}"
                for metrics in trainings
                for name in names
            ],
            hoverinfo="text+name",
        )
    drawn = [value for metrics in (ours, *seeds) for value in metrics.fvu.values()]
    figure.update_xaxes(title={"text": "FVU (0 perfect, 1 useless), validation rows"}, **log_axis(drawn))
    labels = [labelled(name, study.categories.get(name, ())) for name in names]
    figure.update_yaxes(type="category", tickvals=list(range(len(names))), ticktext=labels)
    return figure


FIGURE = Figure(
    title="Error of every category",
    caption="Balance is worth most where the rightmost pairs move left, least where the leftmost ones move right.",
    section="outcome",
    draw=draw,
)
