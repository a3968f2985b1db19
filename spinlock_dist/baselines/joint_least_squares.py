"""Joint least squares: the codebooks of all levels fitted together to the tokens that search finds for them.

The strongest of the codecs without a network: what a network adds is what it leaves less than this one at equal bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Generator

from spinlock_dist.baselines.additive import AdditiveCodec, refit, residual_codebooks, search

ITERATIONS = 20
"""Of the k-means that the codebooks start from."""
ROUNDS = 20
"""Of search and refit. On operators the error of fresh rows falls by 5 % to the third, another 2 % to the twentieth."""
RIDGE = 3.0
"""Rows' worth by which a code is held where the round before put it; 1 and 10 do as well within 1 %."""


@dataclass(frozen=True)
class JointLeastSquares(AdditiveCodec):
    """Additive quantization (Babenko & Lempitsky 2014; Martinez et al. 2016) of one category, started by residual
    k-means."""

    @classmethod
    def fit(cls, x_NF: np.ndarray, codes_L: np.ndarray, generator: Generator, beam: int) -> Self:
        """Fit codebooks of the sizes `codes_L` `[L]` to rows `[N, F]`."""
        start = residual_codebooks(x_NF, codes_L.tolist(), ITERATIONS, generator)
        return cls(alternate(start, x_NF, beam, ROUNDS), beam)


def alternate(codebooks: Sequence[np.ndarray], x_NF: np.ndarray, beam: int, rounds: int) -> tuple[np.ndarray, ...]:
    """The codebooks after `rounds` of finding the tokens of rows `[N, F]`, then the codebooks for these tokens."""
    fitted = tuple(codebooks)
    for _ in range(rounds):
        fitted = refit(fitted, x_NF, search(fitted, x_NF, beam), RIDGE)
    return fitted
