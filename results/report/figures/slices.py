"""The imbalance against each searched setting."""

from __future__ import annotations

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import arrange, grouped, imbalances, log_axis, marker
from results.verdict.sentences import spoken

MOST_SLICES = 12
"""Settings drawn against the imbalance."""


def draw(study: StudyRecord) -> go.Figure | None:
    trials = [record for record in study.search if record.metrics is not None]
    parameters = study.space().parameters
    live = {id(record): study.settings.live(record) for record in trials}
    names = [name for name in parameters if any(name in each for each in live.values())][:MOST_SLICES]
    if not names:
        return None
    columns = 3
    rows = math.ceil(len(names) / columns)
    figure = make_subplots(rows, columns, shared_yaxes=True, subplot_titles=names, vertical_spacing=0.5 / (rows + 1))
    arrange(figure, 100 + 230 * rows)
    figure.update_layout(margin_t=70, legend={"yref": "container", "y": 1, "yanchor": "top"})
    for place, name in enumerate(names):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        for group, records in grouped(trials):
            with_it = [record for record in records if name in live[id(record)]]
            figure.add_scatter(
                x=[live[id(record)][name] for record in with_it],
                y=[record.metrics.estimate("imbalance") for record in with_it if record.metrics],
                mode="markers",
                name=group,
                legendgroup=group,
                showlegend=place == 0,
                marker={**marker(group), "size": 6},
                text=[spoken(record.arm) for record in with_it],
                hoverinfo="text",
                **at,
            )
        if getattr(parameters[name], "log", False):
            figure.update_xaxes(**log_axis(each[name] for each in live.values() if name in each), **at)
    figure.update_yaxes(**log_axis(imbalances(trials)))
    figure.update_yaxes(title={"text": "imbalance"}, col=1)
    figure.update_annotations(font={"size": 11})
    return figure


FIGURE = Figure(
    title="Imbalance against each setting",
    caption="Look for a slope or a valley; a flat cloud means that the setting does not matter. A trial is drawn only "
    "where the setting could make a difference to it.",
    section="learned",
    draw=draw,
    wide=True,
)
