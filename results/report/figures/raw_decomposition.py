"""Log10 of the raw imbalance as the sum of scale and error, of baseline and best trial."""

from __future__ import annotations

import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import COLOURS, best_and_baseline, best_name, blank
from spinlock_dist.metrics.raw_imbalance import split_raw_imbalance


def draw(study: StudyRecord) -> go.Figure | None:
    if study.baseline is None or study.baseline.metrics is None:
        return None
    arms = {"uniform baseline": study.baseline.metrics}
    if (pair := best_and_baseline(study)) is not None:
        arms[best_name(study)] = pair[0]
    if not all(metrics.mse_raw.keys() <= study.scales.keys() for metrics in arms.values()):
        return None
    splits = {name: split_raw_imbalance(metrics.mse_raw, study.scales) for name, metrics in arms.items()}
    figure = blank(height=220, barmode="relative")
    parts = (("scale of the features", "baseline", "log10_scale"), ("unexplained raw variance", "best", "log10_fvu"))
    for label, colour, part in parts:
        figure.add_bar(
            y=list(splits),
            x=[getattr(split, part) for split in splits.values()],
            text=[f"{10 ** getattr(split, part):.3g}x" for split in splits.values()],
            name=label,
            orientation="h",
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "#ffffff"},
            marker={"color": COLOURS[colour]},
        )
    figure.update_xaxes(title={"text": "log10 of the raw imbalance: parts add up"})
    return figure


FIGURE = Figure(
    title="The raw imbalance decomposed",
    caption="How much of it is the scale of the features, which no ratio can change?",
    section="hypotheses",
    draw=draw,
)
