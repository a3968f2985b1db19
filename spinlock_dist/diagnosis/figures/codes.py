"""Codes among the operators that they stand for."""

from __future__ import annotations

from collections import Counter

import numpy as np

from spinlock_dist.config import LEVELS
from spinlock_dist.diagnosis.figures.figure import Figure, Panel, PictureData
from spinlock_dist.diagnosis.figures.svg import HUES, scatter

FEWEST_ROWS = 3
"""A code that stands for fewer rows has no place worth a dot."""


def draw(data: PictureData) -> list[Panel]:
    """The same dots three times: by category, by family and by level."""
    dots = [
        (book, data.embedding_N2[data.tokens_NQ[:, at] == code].mean(axis=0))
        for at, book in enumerate(data.books)
        for code in np.flatnonzero(data.counts_QK[at] >= FEWEST_ROWS)
    ]
    if not dots:
        return []
    places = np.stack([place for _, place in dots])
    places = places / np.maximum(np.abs(places).max(axis=0), 1e-12)
    named = {
        "category": np.array([data.categories[book.category].name for book, _ in dots]),
        "family": np.array([data.categories[book.category].family for book, _ in dots]),
        "level": np.array([LEVELS[book.level] for book, _ in dots]),
    }
    # Of many categories the worst are told apart.
    first = {"category": [each.name for each in data.categories]}
    return [
        Panel(by, scatter(f"codes by {by}", places, grouped(labels, first.get(by))), is_wide=False)
        for by, labels in named.items()
    ]


def grouped(labels: np.ndarray, order: list[str] | None = None) -> list[tuple[str, np.ndarray, int | None]]:
    """Groups of rows by label: the first of `order`, else the most frequent ones, in colours; the others in grey."""
    names = order or [name for name, _ in Counter(labels.tolist()).most_common()]
    shown = names if len(names) <= HUES else names[: HUES - 1]
    found: list[tuple[str, np.ndarray, int | None]] = [(name, labels == name, hue) for hue, name in enumerate(shown)]
    rest = ~np.isin(labels, shown)
    if rest.any():
        found.append((f"{len(names) - len(shown)} others", rest, None))
    return found


FIGURE = Figure(
    title="Codes in the plane",
    caption="A dot is a code, at the mean place of the operators it stands for, in the plane of the two principal "
    "components of what tokens decode to. Dots far out tell kinds of operators apart; those near the middle stand for "
    "all kinds alike.",
    draw=draw,
)
