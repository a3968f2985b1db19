"""The share of each codebook's codes that the best trial uses, and its perplexity."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import blank


def draw(study: StudyRecord) -> go.Figure | None:
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


FIGURE = Figure(
    title="Codebooks of the best trial",
    caption="Dark cells are codebooks whose codes are used unevenly. Numbers are codes used / codes.",
    section="limit",
    draw=draw,
)
