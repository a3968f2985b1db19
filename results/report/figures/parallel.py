"""Every completed trial as a line through its settings and its imbalance: the best feasible ones, the rest, infeasible.

Plotly's own kind for this needs WebGL, which a browser without a graphics card may lack, and does not print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from results.analysis.importance import LEAST_TRIALS, scored
from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import BOLD, BOLD_END, COLOURS, blank, imbalances
from search_spaces import Categorical


def draw(study: StudyRecord) -> go.Figure | None:
    trials, space = scored(study.search), study.space()
    live = [study.settings.live(record) for record in trials]
    names = [name for name in space.parameters if trials and all(name in each for each in live)]
    if len(trials) < LEAST_TRIALS or not names:
        return None
    axes = [_places([record.params[name] for record in trials], space.parameters[name]) for name in names]
    axes.append(_places(imbalances(trials), None))
    places = np.array([places for places, _, _ in axes]).T
    order = np.argsort(places[:, -1], kind="stable")
    feasible = [row for row in order if trials[row].feasible]
    best = math.ceil(len(feasible) / 4)
    figure = blank(height=460)
    looks = (
        ("infeasible", [row for row in order if not trials[row].feasible], "infeasible", "dot", 1),
        ("other feasible trials", feasible[best:], "stopped", "solid", 1),
        ("best quarter of the feasible trials", feasible[:best], "best", "solid", 2),
    )
    for label, rows, colour, dash, width in looks:
        if not rows:
            continue
        x = [place for _ in rows for place in (*range(len(axes)), None)]
        y = [value for row in rows for value in (*places[row], None)]
        line = {"color": COLOURS[colour], "dash": dash, "width": width}
        figure.add_scatter(x=x, y=y, mode="lines", name=label, line=line, opacity=0.8, hoverinfo="skip")
    for place, (_, lowest, highest) in enumerate(axes):
        for height, text, anchor in ((-0.02, lowest, "top"), (1.02, highest, "bottom")):
            figure.add_annotation(x=place, y=height, text=text, showarrow=False, yanchor=anchor, font={"size": 10})
    labels = [name.removeprefix("compression.").removeprefix("training.") for name in names]
    figure.update_xaxes(
        tickvals=list(range(len(axes))), ticktext=[*labels, f"{BOLD}imbalance{BOLD_END}"], tickangle=-35
    )
    figure.update_yaxes(visible=False, range=[-0.1, 1.1])
    return figure


def _places(values: Sequence[Any], parameter: Any) -> tuple[list[float], str, str]:
    """Positions in [0, 1] of values on their own axis, and the labels of its two ends; scores are on a log scale."""
    if isinstance(parameter, Categorical):
        choices = [choice for choice in parameter.choices if choice in values]
        last = max(1, len(choices) - 1)
        return [choices.index(value) / last for value in values], str(choices[0]), str(choices[-1])
    numbers = np.array(values, dtype=float)
    low, high = numbers.min(), numbers.max()
    if parameter is None or getattr(parameter, "log", False):
        numbers = np.log(numbers)
    span = float(np.ptp(numbers)) or 1.0
    return list((numbers - numbers.min()) / span), f"{low:.3g}", f"{high:.3g}"


FIGURE = Figure(
    title="Settings of good and bad trials",
    caption="Look for an axis where the best quarter bunches together; each axis names its two ends. Only settings "
    "that all these trials use have one.",
    section="learned",
    draw=draw,
    wide=True,
)
