"""The FVU of every category, best trial against baseline, as a dumbbell."""

from __future__ import annotations

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, best_and_baseline, best_name, blank, log_axis, outlined


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
    for label, metrics, colour, symbol in (
        ("uniform baseline", base, "baseline", "circle-open"),
        (best_name(study), ours, "best", "circle"),
    ):
        figure.add_scatter(
            x=[metrics.fvu[name] for name in names],
            y=names,
            mode="markers",
            name=label,
            marker=outlined(colour, symbol),
        )
    figure.update_xaxes(
        title={"text": "FVU (0 perfect, 1 useless), validation rows"},
        **log_axis([*ours.fvu.values(), *base.fvu.values()]),
    )
    return figure


FIGURE = Figure(
    title="Error of every category",
    caption="Balance is worth most where the rightmost pairs move left, least where the leftmost ones move right.",
    section="outcome",
    draw=draw,
)
