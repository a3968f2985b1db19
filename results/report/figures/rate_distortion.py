"""Bits per feature against FVU of each category, with what the Gaussian reference leaves at these bits."""

from __future__ import annotations

import plotly.graph_objects as go

from results.analysis.capacity import bits_of
from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import best_and_baseline, best_name, blank, log_axis, outlined


def draw(study: StudyRecord) -> go.Figure | None:
    pair = best_and_baseline(study)
    sizes = {name: each["features"] for name, each in study.prepared.get("characteristics", {}).items()}
    if pair is None or set(sizes) != set(pair[0].fvu):
        return None
    figure = blank()
    arms = ((best_name(study), pair[0], "best", "circle"), ("uniform baseline", pair[1], "baseline", "circle-open"))
    for label, metrics, colour, symbol in arms:
        bits, names = bits_of(metrics), list(metrics.fvu)
        x = [bits[name] / sizes[name] for name in names]
        for part, values, mark, name in (
            ("", metrics.fvu, symbol, label),
            (" reference", metrics.reference_fvu, "line-ew-open", f"reference at its bits, {label}"),
        ):
            figure.add_scatter(
                x=x,
                y=[max(values[category], 1e-6) for category in names],
                mode="markers",
                name=name,
                text=[f"{category}{part}" for category in names],
                marker=outlined(colour, mark),
            )
    drawn = [value for trace in figure.data for value in trace.y]
    figure.update_xaxes(title={"text": "bits per feature"}, **log_axis(x for trace in figure.data for x in trace.x))
    figure.update_yaxes(title={"text": "FVU"}, **log_axis(drawn))
    return figure


FIGURE = Figure(
    title="Bits and error of every category",
    caption="The bar is the error a Gaussian would have at the same bits: a wide gap leaves much to gain.",
    section="limit",
    draw=draw,
)
