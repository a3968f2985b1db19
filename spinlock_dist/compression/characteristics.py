"""Characteristics of a category's features, from which the strategies derive ratios (formulas: Spinlock)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Characteristics:
    """Scores of one category; all but `features`, the two variances and `spectrum` lie in [0, 1]."""

    features: int
    median_variance: float
    variance: float
    dimensionality: float
    information: float
    correlation: float
    spectrum: tuple[float, ...]
    """Eigenvalues `[F]` of the correlation matrix, descending; their sum is the number of features that vary."""
    name: str = ""
    """Of the category; empty in files of earlier versions."""
    mean_variance: float = 0.0
    """The scale of its features, which the raw imbalance is split by; 0 in files of earlier versions."""


def characterize(x_NF: np.ndarray, name: str = "") -> Characteristics:
    """The characteristics of the features `[N, F]` of the category `name`.

    median_variance, mean_variance: of the features' variances, in squared raw units; variance: the median, clipped to
    [0, 1].
    dimensionality: log10(F + 1) / log10(101), clipped to 1.
    information: share of variance explained by the first min(5, F) principal components; 0.5 if F = 1.
    correlation: mean |off-diagonal correlation|; 0 if F = 1. Pairs with a constant feature count as uncorrelated.
    """
    x = np.asarray(x_NF, dtype=np.float64)
    rows, features = x.shape
    variances = x.var(axis=0)
    centred = x - x.mean(axis=0)
    unit = np.divide(centred, np.sqrt(variances), out=np.zeros_like(centred), where=variances > 0)
    correlations = unit.T @ unit / rows
    median_variance = float(np.median(variances))
    return Characteristics(
        features=features,
        median_variance=median_variance,
        variance=min(1.0, median_variance),
        dimensionality=min(1.0, float(np.log10(features + 1) / np.log10(101))),
        information=_explained_by_first(centred, 5),
        correlation=_mean_off_diagonal(np.abs(correlations)),
        spectrum=_spectrum(unit, correlations),
        name=name,
        mean_variance=float(variances.mean()),
    )


def _spectrum(unit_NF: np.ndarray, correlations_FF: np.ndarray) -> tuple[float, ...]:
    rows, features = unit_NF.shape
    if rows >= features:
        return tuple(np.linalg.eigvalsh(correlations_FF)[::-1].clip(min=0.0).tolist())
    # The products of the rows have the same eigenvalues but for zeros, at the cost of rows ** 3.
    eigenvalues = np.linalg.eigvalsh(unit_NF @ unit_NF.T / rows)[::-1].clip(min=0.0)
    return (*eigenvalues.tolist(), *[0.0] * (features - rows))


def _explained_by_first(centred_NF: np.ndarray, components: int) -> float:
    if centred_NF.shape[1] == 1:
        return 0.5
    energies = np.linalg.svd(centred_NF, compute_uv=False) ** 2
    total = energies.sum()
    return min(1.0, float(energies[:components].sum() / total)) if total > 0 else 0.5


def _mean_off_diagonal(correlations_FF: np.ndarray) -> float:
    features = len(correlations_FF)
    if features == 1:
        return 0.0
    return float(np.clip(correlations_FF[~np.eye(features, dtype=bool)].mean(), 0.0, 1.0))
