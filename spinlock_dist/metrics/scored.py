"""What metrics are computed from, of a trained network and of a codec without one alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spinlock_dist.categories.category import Category
from spinlock_dist.metrics.codebook_usage import CodebookUsage


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
    """Those that are switched on."""
    distances: np.ndarray | None = None
    """Between the first rows, of their features; None where there is no latent space to compare with."""
    latents: tuple[np.ndarray, np.ndarray] | None = None
    """Of the first rows, before and after quantization."""
