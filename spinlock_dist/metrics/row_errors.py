"""Squared errors of each row, by category: what every figure of reconstruction is a ratio of sums of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from spinlock_dist.categories.category import Category

RESAMPLES = 200


class RowErrors(NamedTuple):
    """Of N rows and C categories, exact in float64."""

    errors_NC: np.ndarray
    """Squared errors, summed over the features of a category."""
    totals_NC: np.ndarray
    """Squares about the training mean, summed likewise."""

    def resampled(self) -> RowErrors:
        """Their sums over each of B resamples of the rows, `[B, C]`.

        Rows are drawn with replacement (Efron 1979). The same number of rows gives the same draws, so that two configs
        on the same rows are paired resample by resample.
        """
        return self._summed(_counts(len(self.errors_NC)))

    def halved(self) -> tuple[RowErrors, RowErrors]:
        """Their sums over each of B random halves of the rows and over the other half, `[B, C]`; always the same."""
        half_BN = _halves(len(self.errors_NC))
        return self._summed(half_BN), self._summed(1 - half_BN)

    def _summed(self, weights_BN: np.ndarray) -> RowErrors:
        return RowErrors(weights_BN @ self.errors_NC, weights_BN @ self.totals_NC)


def row_errors(
    target_ND: np.ndarray, output_ND: np.ndarray, train_mean_D: np.ndarray, categories: Sequence[Category]
) -> RowErrors:
    """The squared errors of every row and category, in normalized space."""
    target = np.asarray(target_ND, dtype=np.float64)
    return RowErrors(
        _by_category(np.square(target - np.asarray(output_ND, dtype=np.float64)), categories),
        _by_category(np.square(target - np.asarray(train_mean_D, dtype=np.float64)), categories),
    )


def _by_category(squares_ND: np.ndarray, categories: Sequence[Category]) -> np.ndarray:
    return np.stack([squares_ND[:, list(category.columns)].sum(axis=1) for category in categories], axis=1)


@lru_cache(maxsize=4)
def _counts(rows: int) -> np.ndarray:
    """How often each row is drawn in each resample `[B, N]`; always the same."""
    return np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES).astype(np.float64)


@lru_cache(maxsize=4)
def _halves(rows: int) -> np.ndarray:
    """1 where a row lies in the half `[B, N]`; always the same."""
    rng = np.random.default_rng(1)
    return np.array([rng.permutation(rows) < rows / 2 for _ in range(RESAMPLES)]).astype(np.float64)
