"""The imbalance of every trial in the order tried, the best so far, and the baseline as a line."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.records.trial_record import arm_of
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, add_imbalances, baseline_line, blank, imbalances, log_axis


def draw(study: StudyRecord) -> go.Figure | None:
    trials = [record for record in study.search if record.metrics is not None]
    if not trials:
        return None
    several = any(arm_of(record.arm) for record in trials)  # searches of a tournament, each of which numbers its trials
    places = [place if several else record.number for place, record in enumerate(trials)]
    place_of = {id(record): place for place, record in zip(places, trials, strict=True)}
    figure = blank()
    add_imbalances(figure, study, trials, lambda record: place_of[id(record)])
    best = np.minimum.accumulate(
        [r.metrics.estimate("imbalance") if r.feasible and r.metrics else np.inf for r in trials]
    )
    known = [(place, value) for place, value in zip(places, best, strict=True) if np.isfinite(value)]
    figure.add_scatter(
        x=[place for place, _ in known],
        y=[value for _, value in known],
        mode="lines",
        line={"shape": "hv", "color": COLOURS["best"]},
        name="best feasible so far",
    )
    baseline_line(figure, study)
    figure.update_xaxes(title={"text": "trials, strategy after strategy" if several else "trial"})
    figure.update_yaxes(title={"text": "imbalance"}, **log_axis(imbalances(trials)))
    return figure


FIGURE = Figure(
    title="Trials in the order they were run",
    caption="Look at the steps of the line: when did the search stop finding better trials?",
    section="learned",
    draw=draw,
)
