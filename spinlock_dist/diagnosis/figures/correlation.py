"""How far categories are apart: correlations between their features."""

from __future__ import annotations

import numpy as np

from spinlock_dist.diagnosis.figures.figure import Figure, Panel, PictureData
from spinlock_dist.diagnosis.figures.svg import Canvas, shortened, square

LEFT, SIDE = 130.0, 500.0


def draw(data: PictureData) -> list[Panel]:
    """A square a pair of categories."""
    canvas = Canvas(LEFT + SIDE + 4, SIDE + 8, "correlation between categories")
    square(canvas, category_correlation(data), (LEFT, 4), SIDE)
    step = SIDE / len(data.categories)
    for place, category in enumerate(data.categories):
        canvas.text(LEFT - 8, 4 + step * (place + 0.5) + 4, shortened(category.name, 18), "end")
    return [Panel("", canvas.svg(), is_wide=True)]


def category_correlation(data: PictureData) -> np.ndarray:
    """Root mean square of the correlations between the features of two categories, `[C, C]`; within one those of
    different features."""
    centred = data.target_ND - data.target_ND.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    squared_DD = np.square(unit.T @ unit)
    count = len(data.categories)
    found = np.empty((count, count))
    for one, other in np.ndindex(count, count):
        block = squared_DD[np.ix_(list(data.categories[one].columns), list(data.categories[other].columns))]
        if one == other:
            size = len(block)
            found[one, one] = np.sqrt((block.sum() - np.trace(block)) / max(size * (size - 1), 1))
        else:
            found[one, other] = np.sqrt(block.mean())
    return found


FIGURE = Figure(
    title="How categories are related",
    caption="For every pair of categories the root mean square of the correlations between their features; on the "
    "diagonal between different features of one. Categories that are strongly related off the diagonal say the same "
    "twice, and pay for it twice.",
    draw=draw,
)
