"""Figures of a study. Add one with a module that holds a `FIGURE`, and its line in `FIGURES`."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import MARKUP
from spinlock_dist.registry import Registry
from spinlock_dist.shown import plain

OURS = ("hovertemplate", "bdata", "dtype")
"""Parts of a figure that hold no text of others."""

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
    return {name: go.Figure(_as_text(figure)) for name, figure in drawn.items() if figure is not None}


def figure_json(figure: go.Figure) -> str:
    """A figure as it was drawn, as JSON that may stand in an HTML script element."""
    return json.dumps(_as_text(figure), separators=(",", ":")).replace("<", "\\u003c")


def _as_text(figure: go.Figure) -> Any:
    """A figure as plain data whose texts are text: Plotly would make links and bold of tags in them.

    The one place where names of others get into figures. Our own markup is written in `style.MARKUP`.
    """
    return _escaped(json.loads(figure.to_json()))


def _escaped(part: Any, name: str = "") -> Any:
    if isinstance(part, dict):
        return {key: _escaped(value, key) for key, value in part.items()}
    if isinstance(part, list):
        return [_escaped(value, name) for value in part]
    if not isinstance(part, str) or name in OURS:
        return part
    text = plain(part).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(MARKUP.get(letter, letter) for letter in text)
