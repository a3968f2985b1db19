"""Figures of what the trials of a search scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from results.analysis.importance import scored, study_importances
from results.analysis.pareto import front
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from results.report.plots.style import (
    COLOURS,
    baseline_line,
    blank,
    grouped,
    imbalances,
    log_axis,
    marker,
    told,
)


def strategies(study: StudyRecord) -> go.Figure | None:
    """Draw the imbalance of every trial by its strategy."""
    trials = [record for record in study.search if record.metrics is not None and study.settings.strategy(record)]
    if not trials:
        return None
    figure = blank()
    _add_imbalances(figure, study, trials, study.settings.strategy)
    baseline_line(figure, study)
    figure.update_yaxes(title={"text": "imbalance"}, **log_axis(imbalances(trials)))
    return figure


def _add_imbalances(
    figure: go.Figure, study: StudyRecord, trials: Sequence[TrialRecord], x_of: Callable[[TrialRecord], Any]
) -> None:
    """Add a mark for the imbalance of every trial at `x_of` it, by how it ended."""
    for group, records in grouped(trials):
        figure.add_scatter(
            x=[x_of(record) for record in records],
            y=[record.metrics.imbalance for record in records if record.metrics],
            mode="markers",
            name=group,
            marker=marker(group),
            text=[told(record, study) for record in records],
            hoverinfo="text",
        )


def importance(study: StudyRecord) -> go.Figure | None:
    """Draw how much each setting mattered for the imbalance and for the worst category."""
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


def history(study: StudyRecord) -> go.Figure | None:
    """Draw the imbalance of every trial in the order tried, the best so far, and the baseline as a line."""
    trials = [record for record in study.search if record.metrics is not None]
    if not trials:
        return None
    order = {id(record): place for place, record in enumerate(trials)}
    figure = blank()
    _add_imbalances(figure, study, trials, lambda record: order[id(record)])
    best = np.minimum.accumulate([r.metrics.imbalance if r.feasible and r.metrics else np.inf for r in trials])
    known = [(place, value) for place, value in enumerate(best) if np.isfinite(value)]
    figure.add_scatter(
        x=[place for place, _ in known],
        y=[value for _, value in known],
        mode="lines",
        line={"shape": "hv", "color": COLOURS["best"]},
        name="best feasible so far",
    )
    baseline_line(figure, study)
    figure.update_xaxes(title={"text": "trial"})
    figure.update_yaxes(title={"text": "imbalance"}, **log_axis(imbalances(trials)))
    return figure


def pareto(study: StudyRecord) -> go.Figure | None:
    """Draw imbalance against mean FVU, utilization as size, with the front of the feasible trials."""
    trials = scored(study.search)
    if not trials:
        return None
    figure = blank()
    for group, records in grouped(trials):
        figure.add_scatter(
            x=[record.metrics.imbalance for record in records if record.metrics],
            y=[record.metrics.fvu_mean for record in records if record.metrics],
            mode="markers",
            name=group,
            marker={**marker(group), "size": [4 + 8 * r.metrics.utilization for r in records if r.metrics]},
            text=[told(record, study) for record in records],
            hoverinfo="text",
        )
    # Of the front, those that no other beats in the two figures drawn here: the rest owe their place to utilization.
    best = [record.metrics for record in front(trials) if record.metrics]
    edge = [each for place, each in enumerate(best) if all(each.fvu_mean < other.fvu_mean for other in best[:place])]
    figure.add_scatter(
        x=[metrics.imbalance for metrics in edge],
        y=[metrics.fvu_mean for metrics in edge],
        mode="lines",
        line={"color": COLOURS["best"], "dash": "dot"},
        name="front",
        hoverinfo="skip",
    )
    if study.baseline is not None and study.baseline.metrics is not None:
        figure.add_scatter(
            x=[study.baseline.metrics.imbalance],
            y=[study.baseline.metrics.fvu_mean],
            mode="markers",
            name="uniform baseline",
            marker={"symbol": "star", "size": 14, "color": COLOURS["baseline"]},
        )
    figure.update_xaxes(title={"text": "imbalance"}, **log_axis(imbalances(trials)))
    figure.update_yaxes(title={"text": "mean FVU"})
    return figure


def curves(study: StudyRecord) -> go.Figure | None:
    """Draw the worst category's FVU of every trial over its training; stopped trials are faded."""
    trials = [record for record in study.search if len(record.curve) > 1]
    if not trials:
        return None
    figure = blank()
    best = study.best
    for group, records in reversed(grouped([record for record in trials if record is not best])):
        x, y = _joined(records)
        line = {"color": COLOURS[group], "width": 1, "dash": "dot" if group == "stopped" else "solid"}
        opacity = 0.35 if group == "stopped" else 0.7
        figure.add_scatter(x=x, y=y, mode="lines", name=group, line=line, opacity=opacity, hoverinfo="skip")
    looks = [("uniform baseline", study.baseline, "baseline"), ("best", best, "best")]
    for label, record, colour in looks:
        if record is not None and record.curve:
            x, y = _joined([record])
            line = {"color": COLOURS[colour], "width": 3, "dash": "dash" if colour == "baseline" else "solid"}
            figure.add_scatter(x=x, y=y, mode="lines", name=label, line=line)
    figure.update_xaxes(title={"text": "epochs of its own training (pilots not counted)"})
    worst = [report.get("fvu_worst") for record in trials for report in record.curve]
    figure.update_yaxes(title={"text": "FVU of the worst category"}, **log_axis(worst))
    return figure


def _joined(records: Sequence[TrialRecord]) -> tuple[list[float | None], list[float | None]]:
    """Return the curves of trials as one line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for record in records:
        x += [report.get("trained", report["epoch"]) for report in record.curve] + [None]
        y += [report.get("fvu_worst") for report in record.curve] + [None]
    return x[:-1], y[:-1]
