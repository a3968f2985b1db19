"""Figures of what ratios bought, and how near that is to the limit."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.analysis.capacity import (
    PUBLISHED_RATIOS,
    bits_of,
    realized_ratios,
)
from results.records.study_record import StudyRecord
from results.report.plots.style import (
    COLOURS,
    arrange,
    best_and_baseline,
    best_name,
    blank,
    log_axis,
)
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import LEVELS

MOST_NAMES = 40
"""Categories that are named along an axis."""


def ratios(study: StudyRecord) -> go.Figure | None:
    """Draw what the ratios came to in every category and level: published, baseline, best."""
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


def rate_distortion(study: StudyRecord) -> go.Figure | None:
    """Draw bits per feature against FVU of each category, with what the Gaussian reference leaves at these bits."""
    pair = best_and_baseline(study)
    sizes = {name: each["features"] for name, each in study.prepared.get("characteristics", {}).items()}
    if pair is None or set(sizes) != set(pair[0].fvu):
        return None
    figure = blank()
    arms = ((best_name(study), pair[0], "best", "circle"), ("uniform baseline", pair[1], "baseline", "circle-open"))
    for label, metrics, colour, symbol in arms:
        bits, names = bits_of(metrics), list(metrics.fvu)
        x = [bits[name] / sizes[name] for name in names]
        for part, values, mark, name in (
            ("", metrics.fvu, symbol, label),
            (" reference", metrics.reference_fvu, "line-ew-open", f"reference at its bits, {label}"),
        ):
            figure.add_scatter(
                x=x,
                y=[max(values[category], 1e-6) for category in names],
                mode="markers",
                name=name,
                text=[f"{category}{part}" for category in names],
                marker={
                    "color": COLOURS[colour],
                    "symbol": mark,
                    "size": 9,
                    "line": {"width": 2, "color": COLOURS[colour]},
                },
            )
    drawn = [value for trace in figure.data for value in trace.y]
    figure.update_xaxes(title={"text": "bits per feature"}, **log_axis(x for trace in figure.data for x in trace.x))
    figure.update_yaxes(title={"text": "FVU"}, **log_axis(drawn))
    return figure


def codebooks(study: StudyRecord) -> go.Figure | None:
    """Draw the share of each codebook's codes that the best trial uses, and its perplexity."""
    if study.best is None or study.best.metrics is None or not study.best.metrics.codebooks:
        return None
    metrics = study.best.metrics
    names, levels = list(metrics.fvu), sorted({book["level"] for book in metrics.codebooks})
    used, texts = np.full((len(names), len(levels)), np.nan), [["off"] * len(levels) for _ in names]
    for book in metrics.codebooks:
        row, column = names.index(book["category"]), levels.index(book["level"])
        used[row, column] = book["perplexity"] / book["codes"]
        texts[row][column] = f"{book['used']}/{book['codes']}"
    figure = blank(height=140 + 18 * len(names))
    figure.add_heatmap(
        z=used,
        x=levels,
        y=names,
        text=texts,
        texttemplate="%{text}",
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        colorbar={"title": {"text": "perplexity / K"}},
        hovertemplate="%{y} %{x}: %{text} codes used, perplexity / K %{z:.2f}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed")
    return figure
