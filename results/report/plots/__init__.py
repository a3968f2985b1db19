"""Figures of a study, each drawn by one function from its record; None where there is nothing to draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.plots import capacity, course, outcome, search, settings


@dataclass(frozen=True)
class Plot:
    """A figure of a report: what it is, what to look for, how it is drawn."""

    title: str
    caption: str
    draw: Callable[[StudyRecord], go.Figure | None]
    wide: bool = False
    """Whether it needs more width than a phone has, and is scrolled there."""


PLOTS = {
    "effects": Plot(
        "How much better, and how sure",
        "Left of the line is lower than the uniform baseline; an interval that crosses it shows no difference.",
        outcome.effects,
    ),
    "categories": Plot(
        "Error of every category",
        "Balance is worth most where the right-most pairs move left, least where the left ones move right.",
        outcome.categories,
    ),
    "strategies": Plot(
        "Trials by strategy",
        "Look for a column with circles below the dashed line: those keep every guard.",
        search.strategies,
    ),
    "importance": Plot(
        "Which settings mattered",
        "Look for the longest bars; with few trials the shares are rough.",
        search.importance,
    ),
    "history": Plot(
        "Trials in the order tried",
        "Look for the steps of the line: when did the search stop finding better trials?",
        search.history,
    ),
    "pareto": Plot(
        "Balance against mean error",
        "Left and low is better; larger marks use more of their codes, crosses break a guard.",
        search.pareto,
    ),
    "curves": Plot(
        "Learning curves",
        "Look for lines that still fall at the right: these trials were too short. Faded ones were stopped early.",
        search.curves,
    ),
    "slices": Plot(
        "Imbalance against each setting",
        "Look for a slope or a valley; a flat cloud says that the setting does not matter.",
        settings.slices,
        wide=True,
    ),
    "contour": Plot(
        "The two numbers that mattered most",
        "Look for the dark region, and whether trials lie in it: between them it is interpolated.",
        settings.contour,
    ),
    "parallel": Plot(
        "Settings of good and bad trials",
        "Look for an axis where the best quarter runs together; the ends of each axis are written at it.",
        settings.parallel,
        wide=True,
    ),
    "rate_distortion": Plot(
        "Bits and error of every category",
        "The bar at each point is what a Gaussian would leave at its bits: the farther, the more there is to gain.",
        capacity.rate_distortion,
    ),
    "ratios": Plot(
        "What the ratios came to",
        "Look for contrast: published adaptive ratios came out the same for every category.",
        capacity.ratios,
        wide=True,
    ),
    "raw_decomposition": Plot(
        "The raw imbalance taken apart",
        "Look how much of it is the scale of the features, which no ratio can mend.",
        outcome.raw_decomposition,
    ),
    "codebooks": Plot(
        "Codebooks of the best trial",
        "Look for dark cells: codes that are used unevenly. Numbers are codes used / codes.",
        capacity.codebooks,
    ),
    "timeline": Plot(
        "When each trial ran",
        "Look for gaps, in which nothing ran, and for lanes that end early.",
        course.timeline,
    ),
}
"""Every figure of a study, by name."""


def figures(study: StudyRecord) -> dict[str, go.Figure]:
    """Return the figures that there is something to draw for, by the names of `PLOTS`."""
    drawn = {name: plot.draw(study) for name, plot in PLOTS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def figure_json(figure: go.Figure) -> str:
    """Return a figure as JSON that may stand in an HTML script element."""
    return json.dumps(json.loads(figure.to_json()), separators=(",", ":")).replace("<", "\\u003c")
