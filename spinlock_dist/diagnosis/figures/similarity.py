"""How alike the codes of a codebook are."""

from __future__ import annotations

import numpy as np

from spinlock_dist.diagnosis.figures.figure import Book, Figure, Panel, PictureData
from spinlock_dist.diagnosis.figures.svg import Canvas, square

MOST_CODES = 128
"""Drawn of a codebook, the most used ones."""
PANELS = 6
SIDE = 300.0


def draw(data: PictureData) -> list[Panel]:
    """A square a codebook, those of the worst categories: every pair of its codes."""
    panels = []
    for at, book in enumerate(data.books[:PANELS]):
        name = f"{data.categories[book.category].name} {book.name}"
        similar = code_similarity(data, at)
        canvas = Canvas(SIDE, SIDE, f"similarity of the codes of {name}")
        square(canvas, similar, (0.5, 0.5), SIDE - 1)
        panels.append(Panel(f"{name}, {len(similar)} codes", canvas.svg(), is_wide=False))
    return panels


def code_similarity(data: PictureData, at: int) -> np.ndarray:
    """The cosine between what any two codes of a codebook add to the reconstruction, `[K', K']`; like beside like.

    Of the codes that these rows use, the most used `MOST_CODES`. A code adds the mean, over the rows it is chosen for,
    of what its level changes in the features of its category.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    book, counts_K = data.books[at], data.counts_QK[at]
    chosen = np.argsort(-counts_K, kind="stable")[: min(MOST_CODES, int((counts_K > 0).sum()))]
    added_ND = _added(data, book)
    means = np.stack([added_ND[data.tokens_NQ[:, at] == code].mean(axis=0) for code in chosen])
    length = np.linalg.norm(means, axis=1, keepdims=True)
    unit = np.divide(means, length, out=np.zeros_like(means), where=length > 0)
    if len(unit) > 2:
        unit = unit[leaves_list(linkage(unit, "average", optimal_ordering=True))]
    return unit @ unit.T


def _added(data: PictureData, book: Book) -> np.ndarray:
    columns = list(data.categories[book.category].columns)
    before_ND = data.partial_LND[book.level - 1][:, columns] if book.level else data.mean_D[columns]
    return data.partial_LND[book.level][:, columns].astype(np.float64) - before_ND


FIGURE = Figure(
    title="How alike codes are",
    caption="Codebooks of the worst categories: for every pair of codes the cosine between what they add to the "
    "reconstruction, like codes side by side. Blocks of full tone are codes that say nearly the same; the other colour "
    "is what they take back of each other.",
    draw=draw,
)
