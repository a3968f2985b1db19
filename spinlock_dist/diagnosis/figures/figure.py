"""What a figure of a diagnosis is made of, and what it is given.

Legend: N rows, D cleaned features, C categories, Q codebooks that are switched on, L levels, K codes of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Book(NamedTuple):
    """One codebook."""

    category: int
    """Place of its category."""
    level: int
    name: str
    """`L0`, further ones of a level `L0.2`."""
    codes: int


class PicturedCategory(NamedTuple):
    """One category."""

    name: str
    columns: Sequence[int]
    family: str
    """The family that most of its features are of."""


@dataclass(frozen=True, kw_only=True)
class PictureData:
    """Rows as they are, as every level rebuilds them, and their tokens."""

    categories: tuple[PicturedCategory, ...]
    """The category with the largest error first."""
    books: tuple[Book, ...]
    """Category by category in that order, coarse to fine."""
    target_ND: np.ndarray
    """Normalized."""
    partial_LND: np.ndarray
    """What the levels up to each rebuild; the last is the reconstruction."""
    mean_D: np.ndarray
    """Of the rows that errors are compared about."""
    tokens_NQ: np.ndarray
    labels: Mapping[str, np.ndarray]
    """What the dataset says of the rows beside their features: text `[N]` by name."""

    @cached_property
    def counts_QK(self) -> list[np.ndarray]:
        """How often each code was chosen, codebook by codebook `[K]`."""
        return [np.bincount(self.tokens_NQ[:, place], minlength=book.codes) for place, book in enumerate(self.books)]

    @cached_property
    def embedding_N2(self) -> np.ndarray:
        """Rows in the plane of the two principal components of what their tokens decode to, each from -1 to 1.

        Linear within the quartiles and logarithmic far out, for heavy tails would squeeze all else into a corner.
        """
        output_ND = self.partial_LND[-1].astype(np.float64)
        centred = output_ND - output_ND.mean(axis=0)
        _, _, components = np.linalg.svd(centred, full_matrices=False)
        if len(components) < 2:
            components = np.vstack([components, np.zeros((2 - len(components), centred.shape[1]))])
        place_N2 = centred @ components[:2].T
        spread = np.median(np.abs(place_N2 - np.median(place_N2, axis=0)), axis=0)
        bent_N2 = np.arcsinh((place_N2 - np.median(place_N2, axis=0)) / np.maximum(spread, 1e-12))
        return bent_N2 / np.maximum(np.abs(bent_N2).max(axis=0), 1e-12)

    def books_of(self, category: int) -> list[int]:
        """Places of a category's codebooks."""
        return [place for place, book in enumerate(self.books) if book.category == category]


class Panel(NamedTuple):
    """One drawing of a figure."""

    name: str
    """What tells it from the figure's other drawings; empty if there is one alone."""
    svg: str
    is_wide: bool
    """Whether it needs the width of a page; else several stand side by side."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure: drawn where the data has what it shows."""

    title: str
    caption: str
    draw: Callable[[PictureData], list[Panel]]
