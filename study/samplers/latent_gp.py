"""A Gaussian process of several outputs that share one kernel and differ in how strong and how noisy they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

NOISES = np.geomspace(1e-4, 10, 16)
"""Variances of the noise that are tried, in units of the signal's."""
FEW = 110
"""Rows that the kernel is fitted to: the work grows with their cube."""
PRIOR_MEAN, PRIOR_SPREAD = -1.5, 1.5
"""Of the log of 1 / length scale squared, whatever the parameter; the domain is [0, 1]. Few trials leave them there."""
RANGE = (-7.0, 5.0)
STEPS = 25
"""Of the optimizer: what more of them gain is less than what chance decides."""

Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From rows `[N, P]` and `[M, P]` to squared distances `[P, N, M]`."""


class LatentGP:
    """K outputs over the rows of a table, each a Gaussian process with the same Matérn 5/2 kernel (Rasmussen and
    Williams 2006, section 4.2.1), one length scale a parameter, and an amplitude and noise of its own.

    Length scales are those of greatest posterior density under a log-normal prior; amplitude and noise have their
    greatest likelihood given the kernel, in closed form from one eigendecomposition for all outputs.
    """

    def __init__(self, rows: np.ndarray, outputs: np.ndarray, distances: Distances, linear: int = 0):
        """Fit to `rows` `[N, P]`, of which those first in order matter most, and `outputs` `[N, K]`.

        The last `linear` columns are no coordinates: outputs may rise or fall with them linearly, with a slope whose
        variance before any trial is the kernel's.
        """
        self._rows, self._distances, self._linear = rows, distances, linear
        self._mean = outputs.mean(axis=0)
        self._scale = np.maximum(outputs.std(axis=0), 1e-9)
        standard = (outputs - self._mean) / self._scale
        few = _spread(len(rows), FEW)
        places, slopes = self._parts(rows[few])
        apart = distances(places, places)
        start = np.full(len(apart), PRIOR_MEAN)
        fitted = minimize(
            _loss,
            start,
            args=(apart, slopes @ slopes.T, standard[few]),
            jac=True,
            method="L-BFGS-B",
            bounds=[RANGE] * len(start),
            options={"maxiter": STEPS},
        )
        self.weights = np.exp(fitted.x if np.isfinite(fitted.fun) else start)
        values, self._vectors = np.linalg.eigh(self._kernel(rows, rows))
        self._values = np.maximum(values, 1e-10)
        rotated = self._vectors.T @ standard
        self._noise, self._amplitude, _ = _best_noise(self._values, rotated)
        self._denominators = self._values[:, None] + self._noise
        self._alpha = self._vectors @ (rotated / self._denominators)

    def _parts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates and linear columns."""
        count = rows.shape[1] - self._linear
        return rows[:, :count], rows[:, count:]

    def _kernel(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        (ours, our_slopes), (theirs, their_slopes) = self._parts(one), self._parts(other)
        matern = _matern(np.tensordot(self.weights, self._distances(ours, theirs), 1))[0]
        return matern + our_slopes @ their_slopes.T

    def jointly(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means `[B, K]` and covariances `[K, B, B]` of the outputs at rows `[B, P]`, without noise."""
        mean, _, covariance = self.beside(rows, rows)
        return mean, covariance

    def beside(self, rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means `[M, K]` and variances `[K, M]` at rows `[M, P]`, without noise, and covariances `[K, M, B]` with
        `others` `[B, P]`."""
        known = self._kernel(rows, self._rows)
        ours, theirs = known @ self._vectors, self._kernel(others, self._rows) @ self._vectors
        shares = 1 / self._denominators.T
        scale = self._amplitude * self._scale**2
        explained = (ours**2) @ shares.T
        own = 1 + (self._parts(rows)[1] ** 2).sum(axis=1)
        variance = (scale * np.maximum(own[:, None] - explained, 1e-9)).T
        prior = self._kernel(rows, others)
        covariance = np.stack([prior - (ours * share) @ theirs.T for share in shares])
        return self._mean + self._scale * (known @ self._alpha), variance, scale[:, None, None] * covariance


def _spread(count: int, most: int) -> np.ndarray:
    """Places of at most `most` of `count` rows: the first half of them in order, the others evenly from the rest."""
    if count <= most:
        return np.arange(count)
    first = most // 2
    return np.concatenate([np.arange(first), np.linspace(first, count - 1, most - first).round().astype(int)])


def _matern(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matérn 5/2 at squared distances, and its derivative by them."""
    root = np.sqrt(5 * squared)
    decay = np.exp(-root)
    return (1 + root + root**2 / 3) * decay, -5 / 6 * (1 + root) * decay


def _best_noise(values: np.ndarray, rotated: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Noise `[K]` and amplitude `[K]` of greatest likelihood for eigenvalues `[N]` and rotated outputs `[N, K]`, and
    the sum of the logs of these likelihoods."""
    count = len(values)
    denominators = values + NOISES[:, None]
    amplitudes = np.maximum((1 / denominators) @ rotated**2 / count, 1e-12)
    likelihoods = -0.5 * (count * np.log(amplitudes) + np.log(denominators).sum(axis=1)[:, None])
    best = likelihoods.argmax(axis=0)
    each = np.arange(rotated.shape[1])
    return NOISES[best], amplitudes[best, each], float(likelihoods[best, each].sum())


def _loss(
    log_weights: np.ndarray, apart: np.ndarray, linear: np.ndarray, outputs: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the log posterior density of the kernel's weights `[P]`, and its gradient."""
    weights = np.exp(log_weights)
    kernel, slope = _matern(np.tensordot(weights, apart, 1))
    values, vectors = np.linalg.eigh(kernel + linear)
    values = np.maximum(values, 1e-10)
    rotated = vectors.T @ outputs
    noise, amplitude, likelihood = _best_noise(values, rotated)
    inverse = 1 / (values[:, None] + noise)
    alpha = vectors @ (rotated * inverse)
    inner = (alpha / amplitude) @ alpha.T - (vectors * inverse.sum(axis=1)) @ vectors.T
    gradient = 0.5 * weights * np.tensordot(apart, inner * slope, 2)
    strayed = (log_weights - PRIOR_MEAN) / PRIOR_SPREAD
    return 0.5 * float(strayed @ strayed) - likelihood, strayed / PRIOR_SPREAD - gradient
