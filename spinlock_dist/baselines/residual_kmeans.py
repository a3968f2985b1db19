"""Residual k-means: each level's codebook is the k-means of what the levels before it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Generator

from spinlock_dist.baselines.additive import AdditiveCodec, residual_codebooks

ITERATIONS = 50


@dataclass(frozen=True)
class ResidualKMeans(AdditiveCodec):
    """Residual vector quantization (Juang & Gray 1982) of one category.

    Its k-means is the one that starts the network's codebooks, so that a comparison tells of the network alone.
    """

    @classmethod
    def fit(cls, x_NF: np.ndarray, codes_L: np.ndarray, generator: Generator, beam: int) -> Self:
        """Fit one codebook a level with the sizes `codes_L` `[L]`."""
        return cls(residual_codebooks(x_NF, codes_L.tolist(), ITERATIONS, generator), beam)
