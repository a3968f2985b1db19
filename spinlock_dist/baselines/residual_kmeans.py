"""Residual k-means: each level's codebook is the k-means of what the levels before it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Generator, Tensor

from spinlock_dist.model.kmeans import assign, kmeans

ITERATIONS = 50


@dataclass(frozen=True)
class ResidualKMeans:
    """Residual vector quantization (Juang & Gray 1982) of one category; `codebooks` are `[K, F]`, coarse to fine.

    Its k-means is the one that starts the network's codebooks, so that a comparison tells of the network alone.
    """

    codebooks: tuple[Tensor, ...]

    @classmethod
    def fit(cls, x_NF: np.ndarray, codes_L: np.ndarray, generator: Generator) -> Self:
        """Fit one codebook a level with the sizes `codes_L` `[L]`."""
        residual_NF = torch.from_numpy(np.ascontiguousarray(x_NF, dtype=np.float32))
        codebooks = []
        for codes in codes_L.tolist():
            centres_KF, _ = kmeans(residual_NF, codes, ITERATIONS, generator)
            codebooks.append(centres_KF)
            residual_NF = residual_NF - centres_KF[assign(residual_NF, centres_KF)[0]]
        return cls(tuple(codebooks))

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes of each level."""
        return tuple(len(centres_KF) for centres_KF in self.codebooks)

    def encode(self, x_NF: np.ndarray) -> np.ndarray:
        """The tokens `[N, L]`: at each level the centre nearest to what is left."""
        residual_NF = torch.from_numpy(np.ascontiguousarray(x_NF, dtype=np.float32))
        tokens = []
        for centres_KF in self.codebooks:
            nearest_N, _ = assign(residual_NF, centres_KF)
            tokens.append(nearest_N)
            residual_NF = residual_NF - centres_KF[nearest_N]
        return torch.stack(tokens, dim=1).numpy()

    def decode(self, tokens_NL: np.ndarray) -> np.ndarray:
        """The sum of the chosen centres `[N, F]` float32."""
        chosen = [centres_KF.numpy()[tokens_NL[:, level]] for level, centres_KF in enumerate(self.codebooks)]
        return np.sum(chosen, axis=0)
