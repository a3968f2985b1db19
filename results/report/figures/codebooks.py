"""The share of each codebook's codes that the best trial uses, and its perplexity."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from results.records.study_record import StudyRecord
from results.report.figures.figure import Figure
from results.report.figures.style import blank

CARRIED = "bits carried"


def draw(study: StudyRecord) -> go.Figure | None:
    if study.best is None or study.best.metrics is None or not study.best.metrics.codebooks:
        return None
    metrics = study.best.metrics
    names, levels = list(metrics.fvu), sorted({book["level"] for book in metrics.codebooks})
    if metrics.bits_carried:
        levels.append(CARRIED)
    used, texts = np.full((len(names), len(levels)), np.nan), [["off"] * len(levels) for _ in names]
    for book in metrics.codebooks:
        row, column = names.index(book["category"]), levels.index(book["level"])
        used[row, column] = book["perplexity"] / book["codes"]
        texts[row][column] = f"{book['used']}/{book['codes']}"
    for row, name in enumerate(names if metrics.bits_carried else ()):
        carried, paid = metrics.bits_carried[name], metrics.bits[name]
        used[row, -1] = carried / paid if paid else np.nan
        texts[row][-1] = f"{carried:.1f}/{paid:.1f}"
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
        colorbar={"title": {"text": "evenness"}},
        hovertemplate="%{y} %{x}: %{text} (%{z:.2f})<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed")
    return figure


FIGURE = Figure(
    title="Codebooks of the best trial",
    caption="Dark cells are codebooks whose codes are used unevenly (perplexity / K); numbers are codes used / codes. "
    "At the right, bits that the tokens of a category carry / bits they cost.",
    section="limit",
    draw=draw,
)
