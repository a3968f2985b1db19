"""PCA and uniform scalar quantization: transform coding, the textbook's answer to correlated features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Generator

from spinlock_dist.compression.capacity import match_codes
from spinlock_dist.compression.rate_distortion import component_rates

MAX_CELLS = 4096
"""Cells of one component at most: a step of a thousandth of its standard deviation."""
TAILS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2)
"""Shares of the training rows at either end that a grid may leave outside; of these the best one is taken."""


@dataclass(frozen=True)
class Grid:
    """The values `[K]` of one component, ascending: the means of uniform cells, the outermost ones open."""

    values: np.ndarray

    @classmethod
    def fit(cls, scores_N: np.ndarray, cells: int) -> Self:
        """The grid of `cells` cells with the least squared error on these scores."""
        grids = [cls._between(scores_N, cells, *np.quantile(scores_N, [tail, 1 - tail])) for tail in TAILS]
        return min(grids, key=lambda grid: float(np.square(scores_N - grid.values[grid.encode(scores_N)]).sum()))

    @classmethod
    def _between(cls, scores_N: np.ndarray, cells: int, low: float, high: float) -> Self:
        step = (high - low) / cells or 1.0  # where most rows share one value, low may be high
        middles_K = low + (np.arange(cells) + 0.5) * step
        tokens_N = cls(middles_K).encode(scores_N)
        counts_K = np.bincount(tokens_N, minlength=cells)
        sums_K = np.bincount(tokens_N, weights=scores_N, minlength=cells)
        # The mean of a cell's scores is their best value; a cell without any keeps its middle.
        return cls(np.divide(sums_K, counts_K, out=middles_K, where=counts_K > 0))

    def encode(self, scores_N: np.ndarray) -> np.ndarray:
        """The value nearest to each score."""
        return np.searchsorted((self.values[:-1] + self.values[1:]) / 2, scores_N)


@dataclass(frozen=True)
class PCAScalar:
    """Principal components `axes_PF` of one category about `mean_F`, each quantized on a grid of its own.

    The category's bits are shared among components by reverse water-filling on their variances, in whole codes;
    components below the water level are dropped. Tokens have one place a component, not one a level. Components are
    orthogonal, so the nearest value of each is the best choice of all together: there is nothing to search.
    """

    mean_F: np.ndarray
    axes_PF: np.ndarray
    grids: tuple[Grid, ...]

    @classmethod
    def fit(cls, x_NF: np.ndarray, codes_L: np.ndarray, generator: Generator, beam: int) -> Self:
        """Fit within the bits of all levels together, sum(log2 `codes_L`); `generator` and `beam` change nothing."""
        x = np.asarray(x_NF, dtype=np.float64)
        mean_F = x.mean(axis=0)
        _, singular_P, axes_PF = np.linalg.svd(x - mean_F, full_matrices=False)
        budget = float(np.log2(codes_L).sum())
        wanted_P = component_rates(singular_P**2, budget)
        cells_P = match_codes(wanted_P[:, None], budget, MAX_CELLS)[:, 0, 0]
        kept = np.flatnonzero(cells_P > 1)
        scores_NP = (x - mean_F) @ axes_PF[kept].T
        grids = tuple(
            Grid.fit(scores_N, int(cells)) for scores_N, cells in zip(scores_NP.T, cells_P[kept], strict=True)
        )
        return cls(mean_F, axes_PF[kept], grids)

    @property
    def codes(self) -> tuple[int, ...]:
        """Values of each component."""
        return tuple(len(grid.values) for grid in self.grids)

    def encode(self, x_NF: np.ndarray) -> np.ndarray:
        """The tokens `[N, P]`: the nearest value of every component."""
        scores_NP = (np.asarray(x_NF, dtype=np.float64) - self.mean_F) @ self.axes_PF.T
        tokens_NP = np.empty(scores_NP.shape, dtype=np.int64)
        for component, grid in enumerate(self.grids):
            tokens_NP[:, component] = grid.encode(scores_NP[:, component])
        return tokens_NP

    def decode(self, tokens_NP: np.ndarray) -> np.ndarray:
        """The features `[N, F]` float32 that the values come to."""
        scores_NP = np.empty(tokens_NP.shape)
        for component, grid in enumerate(self.grids):
            scores_NP[:, component] = grid.values[tokens_NP[:, component]]
        return (self.mean_F + scores_NP @ self.axes_PF).astype(np.float32)
