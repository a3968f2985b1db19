"""Figures of a study. Add one with a module that holds a `FIGURE`, and its line in `FIGURES`."""

from __future__ import annotations

import json

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from spinlock_dist.registry import Registry

FIGURES: Registry[Figure] = Registry(
    "figure",
    {
        "effects": "results.report.figures.effects:FIGURE",
        "categories": "results.report.figures.categories:FIGURE",
        "ratios": "results.report.figures.ratios:FIGURE",
        "strategies": "results.report.figures.strategies:FIGURE",
        "importance": "results.report.figures.importance:FIGURE",
        "history": "results.report.figures.history:FIGURE",
        "pareto": "results.report.figures.pareto:FIGURE",
        "curves": "results.report.figures.curves:FIGURE",
        "slices": "results.report.figures.slices:FIGURE",
        "contour": "results.report.figures.contour:FIGURE",
        "parallel": "results.report.figures.parallel:FIGURE",
        "rate_distortion": "results.report.figures.rate_distortion:FIGURE",
        "codebooks": "results.report.figures.codebooks:FIGURE",
        "raw_decomposition": "results.report.figures.raw_decomposition:FIGURE",
        "timeline": "results.report.figures.timeline:FIGURE",
    },
)
"""In the order in which they stand in their sections."""


def figures(study: StudyRecord) -> dict[str, go.Figure]:
    """The figures that there is something to draw for, by the names of `FIGURES`."""
    drawn = {name: figure.draw(study) for name, figure in FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def figure_json(figure: go.Figure) -> str:
    """A figure as JSON that may stand in an HTML script element."""
    return json.dumps(json.loads(figure.to_json()), separators=(",", ":")).replace("<", "\\u003c")
