"""Characteristics of a category's features, from which the strategies derive ratios (formulas: Spinlock)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Characteristics:
    """Scores of one category; all but `features` and `median_variance` lie in [0, 1]."""

    features: int
    median_variance: float
    variance: float
    dimensionality: float
    information: float
    correlation: float


def characterize(x_NF: np.ndarray) -> Characteristics:
    """Return the characteristics of a category's features `[N, F]`.

    median_variance: median over features of the variance, in squared raw units; variance: that, clipped to [0, 1].
    dimensionality: log10(F + 1) / log10(101), clipped to 1.
    information: share of variance explained by the first min(5, F) principal components; 0.5 if F = 1.
    correlation: mean |off-diagonal correlation|; 0 if F = 1. Pairs with a constant feature count as uncorrelated.
    """
    x = np.asarray(x_NF, dtype=np.float64)
    rows, features = x.shape
    variances = x.var(axis=0)
    median_variance = float(np.median(variances))
    variance = min(1.0, median_variance)
    dimensionality = min(1.0, float(np.log10(features + 1) / np.log10(101)))
    if features == 1:
        return Characteristics(features, median_variance, variance, dimensionality, information=0.5, correlation=0.0)
    centred = x - x.mean(axis=0)
    energies = np.linalg.svd(centred, compute_uv=False) ** 2
    total = energies.sum()
    information = float(energies[:5].sum() / total) if total > 0 else 0.5
    scale = np.sqrt(variances)
    unit = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
    correlations = np.abs(unit.T @ unit / rows)
    off_diagonal = correlations[~np.eye(features, dtype=bool)]
    correlation = float(np.clip(off_diagonal.mean(), 0.0, 1.0))
    return Characteristics(features, median_variance, variance, dimensionality, min(1.0, information), correlation)
