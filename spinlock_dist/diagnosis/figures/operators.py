"""Operators as their tokens tell them apart."""

from __future__ import annotations

import numpy as np

from spinlock_dist.diagnosis.figures.codes import grouped
from spinlock_dist.diagnosis.figures.figure import Figure, Panel, PictureData
from spinlock_dist.diagnosis.figures.svg import scatter

MOST_DOTS = 1500
WORST = 0.1
"""Share of the operators that are marked for their error."""


def draw(data: PictureData) -> list[Panel]:
    """The same dots once for every kind of label, and by error."""
    shown = slice(0, MOST_DOTS)
    error_N = np.square(data.target_ND[shown] - data.partial_LND[-1][shown]).sum(axis=1)
    is_worst_N = error_N >= np.quantile(error_N, 1 - WORST)
    by = {name.replace("_", " "): (labels[shown], None) for name, labels in data.labels.items()}
    drawn = {name: grouped(labels, order) for name, (labels, order) in by.items() if len(set(labels.tolist())) > 1}
    drawn["error"] = [(f"{WORST:.0%} with most error", is_worst_N, 1), ("others", ~is_worst_N, None)]
    places = data.embedding_N2[shown]
    return [
        Panel(name, scatter(f"operators by {name}", places, groups), is_wide=False) for name, groups in drawn.items()
    ]


FIGURE = Figure(
    title="Operators in the plane",
    caption="A dot is an operator, in the plane of the two principal components of what its tokens decode to, in "
    "colours by what the dataset says of it (grid, evolution policy and the like, where it does) and by its error. "
    "Kinds that fall apart can be told from the tokens. Axes are linear near the middle, logarithmic far out.",
    draw=draw,
)
