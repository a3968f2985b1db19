"""What each level adds: error after it, and bits carried of those paid."""

from __future__ import annotations

import numpy as np

from spinlock_dist.config import LEVELS
from spinlock_dist.diagnosis.figures.figure import Figure, Panel, PictureData
from spinlock_dist.diagnosis.figures.svg import Canvas, shortened
from spinlock_dist.metrics.codebook_usage import codebook_usage
from spinlock_dist.metrics.reconstruction import fraction_unexplained

LEAST = 1e-3
"""FVU at the left end of the axis."""
LEFT, ERRORS, GAP, BITS, ROW = 130.0, 270.0, 30.0, 210.0, 18.0


def draw(data: PictureData) -> list[Panel]:
    """A line a category: dots for its error after each level, bars for the bits of each."""
    height = 40 + ROW * len(data.categories)
    canvas = Canvas(LEFT + ERRORS + GAP + BITS + 10, height, "error and bits by level")
    for level, name in enumerate(LEVELS):
        canvas.dots(np.array([[LEFT + 6 + 50 * level, 8.0]]), level, 8)
        canvas.text(LEFT + 14 + 50 * level, 12, name)
    canvas.text(LEFT + ERRORS + GAP, 12, "bits: paid in frames, carried filled", kind="pale")
    bits = [_bits(data, place) for place in range(len(data.categories))]
    most = max(sum(paid for paid, _ in each) for each in bits) or 1.0
    for tick in (0.001, 0.01, 0.1, 1.0):
        canvas.line((_along(tick), 22), (_along(tick), height - 16), "grid")
        canvas.text(_along(tick), height - 4, f"{tick:g}", "middle", "pale")
    for place, category in enumerate(data.categories):
        y = 32 + ROW * place
        canvas.text(LEFT - 8, y + 4, shortened(category.name, 18), "end")
        found = [fraction_unexplained(data.target_ND, each, data.mean_D, category.columns) for each in data.partial_LND]
        canvas.line((_along(min(found)), y), (_along(max(found)), y))
        for level, fvu in [(level, fvu) for level, fvu in enumerate(found) if bits[place][level][0]]:
            canvas.dots(np.array([[_along(fvu), y]]), level, 8)
        x = LEFT + ERRORS + GAP
        for level, (paid, carried) in enumerate(bits[place]):
            width = BITS * paid / most
            if paid:
                canvas.box((x, y - 6), (width * carried / paid, 12), f"fill h{level}")
                canvas.box((x, y - 6), (width, 12), "frame")
            x += width
    return [Panel("", canvas.svg(), is_wide=True)]


def _bits(data: PictureData, category: int) -> list[tuple[float, float]]:
    """Bits paid and carried, level by level."""
    found = [(0.0, 0.0)] * len(LEVELS)
    for at in data.books_of(category):
        book, (paid, carried) = data.books[at], found[data.books[at].level]
        found[book.level] = (
            paid + float(np.log2(book.codes)),
            carried + codebook_usage(data.counts_QK[at]).bits_carried,
        )
    return found


def _along(fvu: float) -> float:
    share = np.log10(np.clip(fvu, LEAST, 1.0) / LEAST) / -np.log10(LEAST)
    return LEFT + 8 + (ERRORS - 16) * float(share)


FIGURE = Figure(
    title="What each level adds",
    caption="Dots: FVU once the levels up to it are decoded, the worst category first. A level whose dot lies on the "
    "one before adds nothing for its bits. Bars: the bits of each level in turn.",
    draw=draw,
)
