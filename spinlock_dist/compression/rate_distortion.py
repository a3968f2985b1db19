"""Rate-distortion of a Gaussian with the same correlations: what bits can buy, and how to share them out.

A category of standardized features has eigenvalues l_i of its correlation matrix. At water level t its components
cost R(t) = sum_i max(0, 1/2 log2(l_i / t)) bits per sample and leave FVU(t) = sum_i min(l_i, t) / sum_i l_i (reverse
water-filling: Cover & Thomas 2006, section 10.3.3). For Gaussian data no code does better, and only codes over long
blocks of samples do as well; data of another distribution, heavy-tailed or on a curve, can lie on either side. It is
therefore called the *Gaussian reference* here, not a bound.

Spectra are sequences of eigenvalues, one per category, in any order. A category without variance costs nothing and
leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from spinlock_dist.errors import ConfigError

Spectrum = Sequence[float] | np.ndarray

ROUNDING = 1e-12
"""Eigenvalues below this share of the largest are rounding errors of zero."""
DEEPEST = -1000.0
"""log2 of the lowest level that is searched, beyond any budget and within float64."""


def rate(eigenvalues: Spectrum, fvu: float) -> float:
    """The bits per sample at which the Gaussian reference leaves `fvu`: infinite at 0, none at 1 and above."""
    values = _significant(eigenvalues)
    if not len(values) or fvu >= 1:
        return 0.0
    if fvu <= 0:
        return np.inf
    # With k components above the level, k t + (sum of the others) is what is left; at t = l_k it is `left[k]`.
    others = np.append(np.cumsum(values[:0:-1])[::-1], 0.0)
    left = np.arange(1, len(values) + 1) * values + others
    active = max(1, int(np.searchsorted(-left, -fvu * values.sum())))
    level = (fvu * values.sum() - others[active - 1]) / active
    return max(0.0, float(np.log2(values[:active] / level).sum()) / 2)


def fvu_at_rate(eigenvalues: Spectrum, bits: float) -> float:
    """The FVU that the Gaussian reference leaves at `bits` per sample: 1 at none."""
    values = _significant(eigenvalues)
    if not len(values):
        return 0.0
    return float(np.minimum(values, _water_level(values, bits)).sum() / values.sum())


def component_rates(eigenvalues: Spectrum, bits: float) -> np.ndarray:
    """The bits of every component, max(0, 1/2 log2(l_i / t)), in the order given; their sum is `bits`."""
    values = np.asarray(eigenvalues, dtype=np.float64)
    significant = _significant(values)
    if not len(significant):
        return np.zeros(len(values))
    return np.log2(np.maximum(values / _water_level(significant, bits), 1.0)) / 2


def gaussian_reference(spectra: Sequence[Spectrum], bits: Sequence[float] | np.ndarray) -> np.ndarray:
    """The FVU `[C]` that the Gaussian reference leaves of each category at its `bits` `[C]`."""
    return np.array([fvu_at_rate(values, each) for values, each in zip(spectra, bits, strict=True)])


def minimax(
    spectra: Sequence[Spectrum],
    total_bits: float,
    floor_bits: float | np.ndarray = 0.0,
    cap_bits: float | np.ndarray = np.inf,
) -> np.ndarray:
    """The rates `[C]`, summing to `total_bits`, whose largest FVU is smallest.

    All categories have the same FVU f, found by bisection of sum_c R_c(f) = `total_bits`, but those that `floor_bits`
    (scalar or `[C]`) keep below it or `cap_bits` above it; what a cap cuts off goes to the others. If all are at
    their caps the rest of the budget stays unspent. Raises `ConfigError` if the floors exceed the budget.
    """

    def rates_at(log2_fvu: float) -> np.ndarray:
        return np.clip([rate(values, 2.0**log2_fvu) for values in spectra], floor_bits, cap_bits)

    return _spend(total_bits, rates_at)


def best_imbalance(
    spectra: Sequence[Spectrum],
    total_bits: float,
    floor_bits: float | np.ndarray = 0.0,
    cap_bits: float | np.ndarray = np.inf,
) -> float:
    """The smallest max / min FVU of the Gaussian reference among allocations that spend `total_bits`.

    `minimax` reaches it: a category at its floor cannot be worse, one at its cap not better, and the rest are equal.
    1 if neither binds. Categories without variance are left out.
    """
    errors = gaussian_reference(spectra, minimax(spectra, total_bits, floor_bits, cap_bits))
    errors = errors[errors > 0]
    return float(errors.max() / errors.min()) if len(errors) else 1.0


def _significant(eigenvalues: Spectrum) -> np.ndarray:
    """The eigenvalues that are not zero, descending."""
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
    return values[values > ROUNDING * values.max(initial=0.0)]


def _water_level(values: np.ndarray, bits: float) -> float:
    """T with R(t) = `bits` for descending positive eigenvalues, in closed form."""
    logs = np.log2(values)
    sums = np.cumsum(logs)
    ranks = np.arange(1, len(values) + 1)
    starts = (sums - ranks * logs) / 2  # the rate at which the level falls to each component
    active = max(1, int(np.searchsorted(starts, bits, side="right")))
    return float(2.0 ** ((sums[active - 1] - 2 * bits) / active))


def _spend(total_bits: float, rates_at: Callable[[float], np.ndarray]) -> np.ndarray:
    """Rates `[C]` that sum to `total_bits`; `rates_at(log2 of the FVU)` falls as its argument rises to 0."""
    fewest, most = rates_at(0.0), rates_at(DEEPEST)
    if total_bits < fewest.sum() * (1 - 1e-9):
        raise ConfigError(f"{total_bits:g} bits are fewer than the floors of all categories, {fewest.sum():g}")
    if total_bits >= most.sum():
        return most
    low, high = DEEPEST, 0.0
    for _ in range(60):
        middle = (low + high) / 2
        if rates_at(middle).sum() > total_bits:
            low = middle
        else:
            high = middle
    fewer, more = rates_at(high), rates_at(low)
    missing = total_bits - fewer.sum()
    gap = (more - fewer).sum()
    return fewer + (more - fewer) * (missing / gap) if gap > 0 else fewer
