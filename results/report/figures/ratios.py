"""What the ratios came to in every category and level: published, baseline, best."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.analysis.capacity import PUBLISHED_RATIOS, realized_ratios
from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import arrange, best_name
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import LEVELS

MOST_NAMES = 40
"""Categories that are named along an axis."""


def draw(study: StudyRecord) -> go.Figure | None:
    if study.best is None or study.baseline is None:
        return None
    realized = realized_ratios(study.best, study.baseline, study.settings)
    if realized is None or study.best.metrics is None:
        return None
    names = list(study.best.metrics.fvu)
    order = np.argsort(realized.sum(axis=1))
    published = np.array([[(low + high) / 2 for low, high in PUBLISHED_RATIOS]] * len(names))
    tables = {"published (adaptive)": published, "uniform": np.array([UNIFORM_RATIOS] * len(names))}
    tables[best_name(study)] = realized[order]
    figure = make_subplots(1, 3, shared_yaxes=True, subplot_titles=list(tables), horizontal_spacing=0.02)
    arrange(figure, 140 + 18 * len(names))
    for place, table in enumerate(tables.values(), start=1):
        figure.add_heatmap(
            z=table / np.array(UNIFORM_RATIOS),
            x=list(LEVELS),
            y=[names[row] for row in order] if len(names) <= MOST_NAMES else None,
            text=[[f"{value:.2f}" for value in row] for row in table],
            texttemplate="%{text}",
            coloraxis="coloraxis",
            hovertemplate="%{y} %{x}: ratio %{text}<extra></extra>",
            row=1,
            col=place,
        )
    bar = {"title": {"text": "x uniform"}}
    figure.update_layout(coloraxis={"colorscale": "Cividis", "cmin": 0, "cmax": 2, "colorbar": bar})
    return figure


FIGURE = Figure(
    title="Realized ratios",
    caption="Look for contrast: published adaptive ratios came out the same for every category.",
    section="config",
    draw=draw,
    wide=True,
)
