"""How evenly every codebook is used."""

from __future__ import annotations

import numpy as np

from spinlock_dist.config import LEVELS
from spinlock_dist.diagnosis.figures.figure import Figure, Panel, PictureData
from spinlock_dist.diagnosis.figures.svg import Canvas, shortened
from spinlock_dist.metrics.codebook_usage import codebook_usage

MOST_CELLS = 64
"""Of a strip; of larger codebooks neighbours share a cell."""
DARKEST = 3.0
"""How many times its even share a code is used where the tone is full."""
LEFT, WIDTH, GAP, ROW = 130.0, 150.0, 12.0, 16.0


def draw(data: PictureData) -> list[Panel]:
    """A strip a codebook, its codes from the most to the least used."""
    heights = [ROW * max([1, *_books_a_level(data, place)]) + 4 for place in range(len(data.categories))]
    canvas = Canvas(LEFT + len(LEVELS) * (WIDTH + GAP) + 70, sum(heights) + 24, "usage of every codebook")
    for level, name in enumerate(LEVELS):
        canvas.text(LEFT + level * (WIDTH + GAP), 12, name, kind="pale")
    y = 20.0
    for place, category in enumerate(data.categories):
        canvas.text(LEFT - 8, y + 11, shortened(category.name, 18), "end")
        below = dict.fromkeys(range(len(LEVELS)), 0)
        carried = paid = 0.0
        for at in data.books_of(place):
            book, counts_K = data.books[at], data.counts_QK[at]
            corner = LEFT + book.level * (WIDTH + GAP), y + ROW * below[book.level]
            canvas.box(corner, (WIDTH, ROW - 3), "frame")
            canvas.cells(_strip(counts_K, *corner))
            below[book.level] += 1
            carried += codebook_usage(counts_K).bits_carried
            paid += float(np.log2(book.codes))
        canvas.text(LEFT + len(LEVELS) * (WIDTH + GAP), y + 11, f"{carried:.1f} of {paid:.1f}", kind="pale")
        y += heights[place]
    return [Panel("", canvas.svg(), is_wide=True)]


def _books_a_level(data: PictureData, category: int) -> list[int]:
    levels = [data.books[at].level for at in data.books_of(category)]
    return [levels.count(level) for level in set(levels)]


def _strip(counts_K: np.ndarray, x: float, y: float) -> list[tuple[float, float, float, float, float]]:
    share = np.sort(counts_K)[::-1] / max(counts_K.sum(), 1) * len(counts_K)
    cells = [part.mean() for part in np.array_split(share, min(len(share), MOST_CELLS))]
    step = WIDTH / len(cells)
    return [(x + place * step, y, step, ROW - 3, cell / DARKEST) for place, cell in enumerate(cells)]


FIGURE = Figure(
    title="How evenly codes are used",
    caption="A strip is a codebook, its codes from the most to the least used; full tone is three times the even "
    "share. One tone from end to end is an even use; strong at the left and weak behind, a few codes stand for most "
    "rows. Right: bits carried of bits paid.",
    draw=draw,
)
