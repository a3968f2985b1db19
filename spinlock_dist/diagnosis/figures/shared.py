"""What codebooks say that others say as well."""

from __future__ import annotations

import numpy as np

from spinlock_dist.diagnosis.figures.figure import Figure, Panel, PictureData
from spinlock_dist.diagnosis.figures.svg import Canvas, shortened, square

LEFT, SIDE = 130.0, 500.0


def draw(data: PictureData) -> list[Panel]:
    """A square a pair of codebooks."""
    count = len(data.books)
    canvas = Canvas(LEFT + SIDE + 4, SIDE + 8, "information that pairs of codebooks share")
    square(canvas, shared_information(data), (LEFT, 4), SIDE)
    step = SIDE / count
    for place, category in enumerate(data.categories):
        books = data.books_of(place)
        if books:
            middle = 4 + step * (books[0] + books[-1] + 1) / 2
            canvas.text(LEFT - 8, middle + 4, shortened(category.name, 18), "end")
            edge = step * (books[-1] + 1)
            canvas.line((LEFT, 4 + edge), (LEFT + SIDE, 4 + edge), "grid")
            canvas.line((LEFT + edge, 4), (LEFT + edge, 4 + SIDE), "grid")
    return [Panel("", canvas.svg(), is_wide=True)]


def shared_information(data: PictureData) -> np.ndarray:
    """For every pair of codebooks `[Q, Q]` their mutual information / the lesser entropy of the two, 0 to 1.

    As estimated from frequencies less (K1 - 1)(K2 - 1) / (2 N ln 2) bits, what tokens that have nothing to do with each
    other show on N rows (Miller 1955).
    """
    entropy = [_entropy(counts_K) for counts_K in data.counts_QK]
    rows, count = len(data.tokens_NQ), len(data.books)
    found = np.eye(count)
    for one in range(count):
        for other in range(one):
            width = data.books[other].codes
            pairs = np.bincount(data.tokens_NQ[:, one].astype(np.int64) * width + data.tokens_NQ[:, other])
            seen = [int((data.counts_QK[place] > 0).sum()) for place in (one, other)]
            chance = (seen[0] - 1) * (seen[1] - 1) / (2 * rows * np.log(2))
            information = entropy[one] + entropy[other] - _entropy(pairs) - chance
            least = min(entropy[one], entropy[other])
            found[one, other] = found[other, one] = np.clip(information / least, 0, 1) if least > 0 else 0.0
    return found


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


FIGURE = Figure(
    title="What codebooks share",
    caption="For every pair of codebooks the mutual information of their tokens / the lesser entropy of the two: full "
    "tone says that one can be told from the other. Lines part categories, within one levels go from coarse to fine. "
    "Bits that two codebooks share are paid twice.",
    draw=draw,
)
