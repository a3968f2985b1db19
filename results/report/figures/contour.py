"""The imbalance over the two numeric settings that mattered most."""

from __future__ import annotations

import plotly.graph_objects as go

from results.analysis.importance import in_memory, study_importances
from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import arrange
from search_spaces import Categorical


def draw(study: StudyRecord) -> go.Figure | None:
    space = study.space()
    shares = study_importances(study).get("imbalance", {})
    numbers = [name for name in shares if not isinstance(space.parameters[name], Categorical)][:2]
    if len(numbers) < 2:
        return None
    from optuna.visualization import plot_contour

    figure = plot_contour(in_memory(study.search, space, study.settings), params=numbers, target_name="log10 imbalance")
    arrange(figure, 420)
    figure.update_layout(title=None)
    figure.update_traces(colorscale="Cividis", reversescale=False, selector={"type": "contour"})
    return figure


FIGURE = Figure(
    title="The two numeric settings that mattered most",
    caption="Look for the dark region, and whether trials lie in it: between trials the surface is interpolated.",
    section="learned",
    draw=draw,
)
