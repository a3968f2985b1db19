"""How much each setting mattered for the imbalance and for the worst category."""

from __future__ import annotations

import plotly.graph_objects as go

from results.analysis.importance import study_importances
from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, blank


def draw(study: StudyRecord) -> go.Figure | None:
    found = study_importances(study)
    if not found:
        return None
    names = list(reversed(list(next(iter(found.values())))))
    figure = blank(height=140 + 26 * len(names), barmode="group")
    looks = {"imbalance": ("imbalance", "best", ""), "worst": ("worst category", "stopped", "/")}
    for target, shares in found.items():
        label, colour, shape = looks[target]
        marker = {"color": COLOURS[colour], "pattern": {"shape": shape}}
        figure.add_bar(y=names, x=[shares.get(name, 0.0) for name in names], name=label, orientation="h", marker=marker)
    figure.update_xaxes(title={"text": "share of the differences (fANOVA)"}, tickformat=".0%")
    return figure


FIGURE = Figure(
    title="Which settings mattered",
    caption="Look for the longest bars. With few trials the shares are rough.",
    section="learned",
    draw=draw,
)
