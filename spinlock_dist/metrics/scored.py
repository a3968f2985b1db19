"""What metrics are computed from, of a trained network and of a codec without one alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from spinlock_dist.categories.category import Category
from spinlock_dist.metrics.codebook_usage import CodebookUsage
from spinlock_dist.metrics.row_errors import RowErrors, row_errors


class Codebook(NamedTuple):
    """One codebook and how its codes were used."""

    category: str
    level: str
    """`L0`, further ones of a level `L0.2`; of a codec its place among those of the category."""
    dim: int
    train: CodebookUsage
    """On the training rows."""
    split: CodebookUsage
    """On the rows that are scored."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Rows of one split as they are and as they were reconstructed, and what that cost."""

    split: str
    target_ND: np.ndarray
    """Normalized."""
    output_ND: np.ndarray
    train_mean_D: np.ndarray
    """Of the normalized training rows."""
    raw_target_ND: np.ndarray
    """In raw units of the cleaned columns."""
    raw_output_ND: np.ndarray
    categories: Sequence[Category]
    spectra: Sequence[Sequence[float]]
    """Eigenvalues of each category's correlations."""
    bits_C: np.ndarray
    """Bits per sample of each category."""
    codebooks: Sequence[Codebook]
    """Those that are switched on; of several folds those of each."""
    folds: int = 1
    """Folds whose rows these are, each with a model of its own."""
    distances: np.ndarray | None = None
    """Between the first rows, of their features; None where there is no latent space to compare with."""
    latents: tuple[np.ndarray, np.ndarray] | None = None
    """The same between their latents, before and after quantization."""

    @cached_property
    def row_errors(self) -> RowErrors:
        """The squared errors of every row and category."""
        return row_errors(self.target_ND, self.output_ND, self.train_mean_D, self.categories)

    @cached_property
    def resampled(self) -> RowErrors:
        """Their sums over resamples of the rows."""
        return self.row_errors.resampled()

    @property
    def is_finite(self) -> bool:
        """Whether rows, reconstruction and latents are."""
        parts = (self.target_ND, self.output_ND, *(self.latents or ()))
        return all(bool(np.isfinite(part).all()) for part in parts)


def pooled(folds: Sequence[Scored]) -> Scored:
    """The rows of all folds together, each as the model of its own fold reconstructed it.

    Each fold has a training mean of its own, about which its squares are taken: so targets and outputs are stated as
    differences from it. Codebooks are those of all folds, each used by the rows of its own. The latent space compared
    is that of the first.
    """
    first = folds[0]
    return replace(
        first,
        target_ND=np.concatenate([each.target_ND - each.train_mean_D for each in folds]),
        output_ND=np.concatenate([each.output_ND - each.train_mean_D for each in folds]),
        train_mean_D=np.zeros_like(first.train_mean_D),
        raw_target_ND=np.concatenate([each.raw_target_ND for each in folds]),
        raw_output_ND=np.concatenate([each.raw_output_ND for each in folds]),
        bits_C=np.mean([each.bits_C for each in folds], axis=0),
        codebooks=[book for each in folds for book in each.codebooks],
        folds=len(folds),
    )
