"""The Gaussian reference: reverse water-filling against brute force, and what makes an allocation optimal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.compression.rate_distortion import (
    best_imbalance,
    component_rates,
    fvu_at_rate,
    gaussian_reference,
    minimax,
    rate,
)
from spinlock_dist.errors import ConfigError


@st.composite
def spectrum(draw: st.DrawFn) -> np.ndarray:
    """Draw eigenvalues of a correlation matrix, descending: their sum is their number."""
    values = 10.0 ** np.array(draw(st.lists(st.floats(-6, 1), min_size=1, max_size=12)))
    return np.sort(values)[::-1] * len(values) / values.sum()


spectra = st.lists(spectrum(), min_size=1, max_size=8)
bits = st.floats(0, 60)


def poured(values: np.ndarray, rate_bits: float) -> float:
    """Return the FVU of reverse water-filling by bisection on the level: the definition, slowly."""
    low, high = -200.0, float(np.log2(values.max()))
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(0, np.log2(values) - middle).sum() / 2 > rate_bits:
            low = middle
        else:
            high = middle
    return float(np.minimum(values, 2.0**high).sum() / values.sum())


def over_all_features(given_spectra: list[np.ndarray], rates: np.ndarray) -> float:
    sizes = [values.sum() for values in given_spectra]
    return float(np.average(gaussian_reference(given_spectra, rates), weights=sizes))


@given(spectrum(), bits)
def test_agrees_with_pouring_by_bisection(values: np.ndarray, rate_bits: float) -> None:
    assert fvu_at_rate(values, rate_bits) == pytest.approx(poured(values, rate_bits), rel=1e-9)


@given(spectrum(), st.floats(0.01, 60))
def test_rate_undoes_fvu_at_rate(values: np.ndarray, rate_bits: float) -> None:
    assert rate(values, fvu_at_rate(values, rate_bits)) == pytest.approx(rate_bits, rel=1e-6, abs=1e-6)


@given(spectrum(), st.floats(1e-9, 1))
def test_fvu_at_rate_undoes_rate(values: np.ndarray, fvu: float) -> None:
    assert fvu_at_rate(values, rate(values, fvu)) == pytest.approx(fvu, rel=1e-9)


@given(spectrum(), bits, st.floats(0.01, 10))
def test_more_bits_leave_less(values: np.ndarray, rate_bits: float, more: float) -> None:
    assert fvu_at_rate(values, rate_bits + more) < fvu_at_rate(values, rate_bits)


@given(spectrum(), bits)
def test_components_share_the_bits_and_the_order_does_not_matter(values: np.ndarray, rate_bits: float) -> None:
    shares = component_rates(values, rate_bits)
    assert shares.sum() == pytest.approx(rate_bits, abs=1e-9)
    assert component_rates(values[::-1], rate_bits) == pytest.approx(shares[::-1])


def test_known_values() -> None:
    assert fvu_at_rate([1.0], 1.0) == pytest.approx(0.25)  # a bit halves the standard deviation
    assert fvu_at_rate([1.0, 1.0], 2.0) == pytest.approx(0.25)
    assert fvu_at_rate([2.0, 0.0], 1.0) == pytest.approx(0.25)  # two copies of one feature cost as much as one
    assert fvu_at_rate([1.5, 0.5], np.log2(3) / 2) == pytest.approx(0.5)  # the level has just reached the second


def test_the_ends_are_exact() -> None:
    values = [2.5, 0.3, 0.2]
    assert fvu_at_rate(values, 0) == 1.0
    assert rate(values, 1.0) == rate(values, 2.0) == 0.0
    assert rate(values, 0.0) == np.inf
    assert fvu_at_rate([0.0, 0.0], 3.0) == rate([0.0], 0.5) == 0.0
    assert component_rates([0.0, 0.0], 3.0).tolist() == [0, 0]


@settings(max_examples=30, deadline=None)
@given(spectra, bits)
def test_an_allocation_spends_the_budget(given_spectra: list[np.ndarray], total: float) -> None:
    rates = minimax(given_spectra, total)
    assert rates.sum() == pytest.approx(total, abs=1e-6)
    assert (rates >= 0).all()


@settings(max_examples=30, deadline=None)
@given(spectra, st.floats(0.1, 60))
def test_minimax_makes_every_error_equal(given_spectra: list[np.ndarray], total: float) -> None:
    errors = gaussian_reference(given_spectra, minimax(given_spectra, total))
    assert errors == pytest.approx(np.full(len(errors), errors[0]), rel=1e-6)
    assert best_imbalance(given_spectra, total) == pytest.approx(1, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(spectra, st.floats(0.1, 60), st.integers(0, 2**32 - 1))
def test_no_other_allocation_has_a_smaller_worst_error(
    given_spectra: list[np.ndarray], total: float, seed: int
) -> None:
    other = np.random.default_rng(seed).dirichlet(np.ones(len(given_spectra))) * total
    worst = gaussian_reference(given_spectra, other).max()
    assert gaussian_reference(given_spectra, minimax(given_spectra, total)).max() <= worst * (1 + 1e-6)


@settings(max_examples=30, deadline=None)
@given(spectra, st.floats(0, 1), st.floats(0, 3), st.floats(0.1, 8))
def test_floors_and_caps_bind_and_the_rest_is_redistributed(
    given_spectra: list[np.ndarray], share: float, floor: float, width: float
) -> None:
    cap, count = floor + width, len(given_spectra)
    total = count * (floor + share * width)
    rates = minimax(given_spectra, total, floor, cap)
    assert rates.sum() == pytest.approx(total, abs=1e-6)
    assert (rates >= floor - 1e-12).all() and (rates <= cap + 1e-12).all()
    errors = gaussian_reference(given_spectra, rates := minimax(given_spectra, total, floor, cap))
    free = (rates > floor + 1e-6) & (rates < cap - 1e-6)
    if free.any():
        level = errors[free][0]
        assert errors[free] == pytest.approx(level, rel=1e-5)
        assert (errors[rates <= floor + 1e-6] <= level * (1 + 1e-5)).all()
        assert (errors[rates >= cap - 1e-6] >= level * (1 - 1e-5)).all()


def test_best_imbalance_knows_floor_and_cap() -> None:
    near_copies, independent = [4.9, 0.05, 0.03, 0.02], np.ones(20)
    pair = [near_copies, independent]
    assert best_imbalance(pair, 20) == pytest.approx(1)
    with_floor = best_imbalance(pair, 20, floor_bits=np.array([3.0, 0.0]))
    with_cap = best_imbalance(pair, 20, cap_bits=np.array([np.inf, 12.0]))
    assert with_floor == pytest.approx(fvu_at_rate(independent, 17) / fvu_at_rate(near_copies, 3))
    assert with_cap == pytest.approx(fvu_at_rate(independent, 12) / fvu_at_rate(near_copies, 8))
    assert best_imbalance([[0.0], independent], 20) == 1


def test_budgets_beyond_the_caps_or_below_the_floors() -> None:
    pair = [[1.0, 1.0], [1.5, 0.5]]
    assert minimax(pair, 100, cap_bits=5).tolist() == [5, 5]
    assert minimax([[0.0], [0.0]], 8).tolist() == [0, 0]
    with pytest.raises(ConfigError, match="3 bits are fewer than the floors of all categories, 4"):
        minimax(pair, 3, floor_bits=2)
