"""Estimates: the bias of few rows taken off, intervals that hold, pairs that are pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.categories.category import Category
from spinlock_dist.metrics.estimates import cross_fitted, estimate_of, log_figures
from spinlock_dist.metrics.record import Estimate
from spinlock_dist.metrics.row_errors import RowErrors, row_errors


def drawn(fvu_C: list[float], rows: int, seed: int, tails: float = 0.0) -> RowErrors:
    """Rows whose categories have these FVU in the population, some rows of far more weight as `tails` grows."""
    rng = np.random.default_rng(seed)
    shape = rows, len(fvu_C)
    totals_NC = np.exp(rng.normal(-(tails**2) / 2, tails, shape)) * rng.chisquare(4, shape) / 4
    return RowErrors(totals_NC * fvu_C * rng.chisquare(4, shape) / 4, totals_NC)


def sums(errors: RowErrors) -> RowErrors:
    return RowErrors(*(each.sum(axis=0, keepdims=True) for each in errors))


def test_figures_are_what_their_names_say() -> None:
    found = log_figures(RowErrors(np.array([[1.0, 2.0, 4.0, 5.0]]), np.full((1, 4), 10.0)))
    figures = {name: math.exp(value_B[0]) for name, value_B in found.items()}
    assert figures == pytest.approx({"imbalance": 5, "fvu_worst": 0.5, "fvu_mean": 0.3, "spread": 4.5 / 1.5})


@pytest.mark.parametrize("tails", [0.0, 0.7, 1.2])
def test_equal_categories_lose_the_bias_and_a_clear_worst_has_none(tails: float) -> None:
    measured, estimated, clear = [], [], []
    for seed in range(40):
        errors = drawn([0.1] * 12, 300, seed, tails)
        measured.append(log_figures(sums(errors))["imbalance"][0])
        estimated.append(cross_fitted(errors)["imbalance"])
        clear.append(cross_fitted(drawn([0.5, 0.1, 0.02], 300, seed, tails))["imbalance"])
    assert np.mean(measured) > 0.1
    assert abs(np.mean(estimated)) < 0.15 * np.mean(measured)
    assert np.mean(clear) == pytest.approx(math.log(25), abs=0.05)


def test_the_mean_needs_no_correction() -> None:
    errors = drawn([0.5, 0.1, 0.02], 1000, 0)
    assert cross_fitted(errors)["fvu_mean"] == pytest.approx(log_figures(sums(errors))["fvu_mean"][0], abs=2e-3)


def test_the_interval_of_a_clear_ratio_holds_the_truth() -> None:
    inside = 0
    for seed in range(100):
        found = estimate_of(drawn([0.5, 0.1, 0.02], 400, seed, tails=0.5))["imbalance"]
        inside += found.low <= 25 <= found.high
    assert inside >= 88  # of 100 at 95%; fewer would come up once in some hundred


def test_records_on_the_same_rows_are_paired_by_resample() -> None:
    errors = drawn([0.3, 0.1], 200, 0, tails=1.0)
    half = RowErrors(errors.errors_NC / 2, errors.totals_NC)
    ours, theirs = (log_figures(each.resampled())["fvu_worst"] for each in (half, errors))
    np.testing.assert_allclose(theirs - ours, math.log(2), atol=1e-9)
    assert theirs.std() > 0.05


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=8), st.integers(2, 60), st.integers(0, 9))
def test_every_estimate_is_finite_and_within_its_interval(fvu_C: list[float], rows: int, seed: int) -> None:
    for name, found in estimate_of(drawn(fvu_C, rows, seed)).items():
        assert 0 < found.low <= found.value <= found.high < math.inf, name
        assert found.low >= 1 or name not in ("imbalance", "spread")


def test_what_is_not_finite_stays_so() -> None:
    errors = drawn([0.3, 0.1], 50, 0)
    errors.errors_NC[3, 1] = np.nan
    assert all(math.isnan(found.value) for found in estimate_of(errors).values())


def test_row_errors_sum_over_the_features_of_a_category() -> None:
    target, output = np.arange(12.0).reshape(3, 4), np.zeros((3, 4))
    found = row_errors(target, output, np.ones(4), [Category("a", (0, 2)), Category("b", (1, 3))])
    np.testing.assert_array_equal(found.errors_NC, [[4, 10], [52, 74], [164, 202]])
    np.testing.assert_array_equal(found.totals_NC, [[2, 4], [34, 52], [130, 164]])


def test_a_figure_is_told_with_half_its_interval(make_metrics) -> None:
    plain = make_metrics(0.5, 0.1)
    assert (plain.in_words("imbalance"), plain.in_words("fvu_worst")) == ("5.00x", "0.500")
    found = Estimate(value=4.0, low=4.0 / 1.2, high=4.0 * 1.2)
    told = make_metrics(0.5, 0.1, estimates={"imbalance": found, "fvu_worst": found})
    assert (told.in_words("imbalance"), told.in_words("fvu_worst")) == ("4.00x ±20%", "4.000 ±20%")
