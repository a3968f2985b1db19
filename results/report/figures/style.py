"""How the figures of a study look: colours, marks, axes.

Colours are those of `COLOURS` (Okabe & Ito 2008, told apart by colour-blind readers) and never carry a meaning alone:
symbols, dashes or labels say the same. Backgrounds are transparent, so that a page decides between light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from results.analysis.trial_summary import DUPLICATE
from results.records.stage import outcome_in_words
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from spinlock_dist.metrics.record import Metrics

BOLD, BOLD_END, BREAK = "\ue000", "\ue001", "\ue002"
MARKUP = {BOLD: "<b>", BOLD_END: "</b>", BREAK: "<br>"}
"""Markup of our own in texts: in everything else a tag is text."""

COLOURS = {
    "best": "#0072b2",
    "baseline": "#d55e00",
    "feasible": "#009e73",
    "infeasible": "#cc79a7",
    "stopped": "#8a939b",
    "failed": "#e69f00",
    "duplicate": "#8a939b",
}
"""By meaning, on a light background."""
PALETTE_ON_DARK = {
    "#0072b2": "#56b4e9",
    "#d55e00": "#ff9a57",
    "#009e73": "#35c79a",
    "#cc79a7": "#e3a1c5",
    "#8a939b": "#8f99a3",
    "#e69f00": "#f5c04a",
}
"""The same colours on a dark background."""
SYMBOLS = {
    "feasible": "circle",
    "infeasible": "x",
    "stopped": "triangle-down",
    "failed": "square-open",
    "duplicate": "circle-open",
}
PATTERNS = {"feasible": "", "infeasible": "x", "stopped": "/", "failed": ".", "duplicate": "-"}
"""Of bars."""


def group_of(record: TrialRecord) -> str:
    """How a trial is drawn: `feasible`, `infeasible`, `stopped` early or `failed` (diverged, refused, lost).

    Or as a `duplicate`, which was told from another trial.
    """
    if record.kind == DUPLICATE:
        return "duplicate"
    if record.state == "complete":
        return "feasible" if record.feasible else "infeasible"
    return "stopped" if record.state == "pruned" else "failed"


def told(record: TrialRecord, study: StudyRecord) -> str:
    """The text shown when pointing at a trial."""
    lines = [f"{BOLD}{record.arm.replace('-', ' ')}{BOLD_END}, {outcome_in_words(record)}"]
    if record.metrics is not None:
        lines.append(
            f"imbalance {record.metrics.in_words('imbalance')}, worst {record.metrics.in_words('fvu_worst')}, "
            f"mean {record.metrics.in_words('fvu_mean')}, util {record.metrics.utilization:.0%}, "
            f"{record.metrics.carried_in_words()}"
        )
    return BREAK.join([*lines, study.settings.in_words(record)])


def blank(height: int = 380, **layout: Any) -> go.Figure:
    figure = go.Figure()
    arrange(figure, height, **layout)
    return figure


def arrange(figure: go.Figure, height: int, **layout: Any) -> None:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 16, "t": 28, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left"},
        **layout,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)


def log_axis(values: Iterable[float | None]) -> dict[str, Any]:
    """A logarithmic axis over `values` with round ticks, however narrow their range."""
    known = [value for value in values if value is not None and value > 0]
    low, high = min(known, default=1.0), max(known, default=10.0)
    scales: tuple[tuple[float, Sequence[float]], ...] = (
        (2, np.arange(1, 10, 0.5).tolist()),
        (8, (1, 1.5, 2, 3, 4, 5, 6, 8)),
        (1e4, (1, 2, 5)),
        (math.inf, (1,)),
    )
    steps = next(steps for widest, steps in scales if high <= widest * low)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:.4g}" for tick in ticks]}


def ratio_axis(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis over ratios to a reference: 1 and a labelled tick on either side of it are always in sight."""
    low, high = min([*values, 1.0]), max([*values, 1.0])
    axis = log_axis((min(low, 1 / 1.1), max(high, 1.1)))
    below = max(tick for tick in axis["tickvals"] if tick < min(low, 1 - 1e-9) * (1 + 1e-9))
    above = min(tick for tick in axis["tickvals"] if tick > max(high, 1 + 1e-9) * (1 - 1e-9))
    return {**axis, "range": [math.log10(below) - 0.01, math.log10(above) + 0.01]}


def imbalances(records: Iterable[TrialRecord]) -> list[float]:
    return [record.metrics.estimate("imbalance") for record in records if record.metrics is not None]


def grouped(records: Iterable[TrialRecord]) -> list[tuple[str, list[TrialRecord]]]:
    groups: dict[str, list[TrialRecord]] = {name: [] for name in SYMBOLS}
    for record in records:
        groups[group_of(record)].append(record)
    return [(name, found) for name, found in groups.items() if found]


def marker(group: str) -> dict[str, Any]:
    faded = {"opacity": 0.45} if group == "stopped" else {}
    return {"color": COLOURS[group], "symbol": SYMBOLS[group], "size": 8, **faded}


def outlined(colour: str, symbol: str) -> dict[str, Any]:
    """A mark that shows its colour even where its symbol is open or a line; `colour` as in `COLOURS`."""
    return {"color": COLOURS[colour], "symbol": symbol, "size": 9, "line": {"width": 2, "color": COLOURS[colour]}}


def best_and_baseline(study: StudyRecord) -> tuple[Metrics, Metrics] | None:
    """The metrics of the best trial and of the baseline."""
    best, baseline = study.best, study.baseline
    if best is None or best.metrics is None or baseline is None or baseline.metrics is None:
        return None
    return best.metrics, baseline.metrics


def best_name(study: StudyRecord) -> str:
    assert study.best is not None
    return study.best.arm.replace("-", " ")


def baseline_name(study: StudyRecord) -> str:
    """What the baseline's marks are called: each is one training."""
    seeds = len(study.phase("baseline"))
    return f"uniform baseline, {seeds} seeds" if seeds > 1 else "uniform baseline"


def baseline_line(figure: go.Figure, study: StudyRecord) -> None:
    """Draw the imbalance of each seed of the baseline across a figure with the log of the imbalance upwards."""
    levels, colour = imbalances(study.phase("baseline")), COLOURS["baseline"]
    for level in levels:
        across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level}
        figure.add_shape(**across, line={"dash": "dash", "color": colour})
    if levels:
        beside = {"xref": "paper", "x": 1, "xanchor": "right", "y": math.log10(max(levels)), "yanchor": "bottom"}
        figure.add_annotation(**beside, text=baseline_name(study), showarrow=False, font={"color": colour})


def add_imbalances(
    figure: go.Figure, study: StudyRecord, trials: Sequence[TrialRecord], x_of: Callable[[TrialRecord], Any]
) -> None:
    """Add a mark for the imbalance of every trial at `x_of` it, by how it ended."""
    for group, records in grouped(trials):
        figure.add_scatter(
            x=[x_of(record) for record in records],
            y=[record.metrics.estimate("imbalance") for record in records if record.metrics],
            mode="markers",
            name=group,
            marker=marker(group),
            text=[told(record, study) for record in records],
            hoverinfo="text",
        )
