"""The water-filling strategies: within wide bounds the plan is the Gaussian allocation itself."""

from __future__ import annotations

import numpy as np
import pytest

from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity
from spinlock_dist.compression.characteristics import Characteristics, characterize
from spinlock_dist.compression.rate_distortion import gaussian_reference, minimax
from spinlock_dist.compression.ratios import allocate_ratios
from spinlock_dist.compression.strategies import UNIFORM_RATIOS, get_strategy
from spinlock_dist.config import CompressionConfig

ROWS = 100_000
"""Training rows enough for every codebook."""


@pytest.fixture(scope="module")
def categories() -> list[Characteristics]:
    """Return categories from near-copies of one factor to nearly independent features."""
    rng = np.random.default_rng(0)
    shapes = ((20, 3, 0.2), (5, 1, 0.1), (30, 6, 0.5), (12, 8, 0.3), (3, 1, 0.6))
    return [
        characterize(
            rng.normal(size=(500, factors)) @ rng.normal(size=(factors, n)) + noise * rng.normal(size=(500, n))
        )
        for n, factors, noise in shapes
    ]


def within_wide_bounds(strategy: str, categories: list[Characteristics]) -> CapacityPlan:
    bounds = {level: {"low": 0.001, "high": 4} for level in ("L0", "L1", "L2")}
    config = CompressionConfig(strategy=strategy, bounds=bounds, max_codes=10**6, min_rows_per_code=1)
    return plan_capacity(config, categories, ROWS)


def test_the_plan_is_the_allocation(categories: list[Characteristics]) -> None:
    total = plan_capacity(CompressionConfig(strategy="uniform"), categories, ROWS).bits_per_sample
    wanted = minimax([each.spectrum for each in categories], total, floor_bits=1.0)
    plan = within_wide_bounds("waterfill", categories)
    assert plan.bits.sum(axis=1) == pytest.approx(wanted, abs=0.5)  # codes are whole numbers
    assert total * 0.99 <= plan.bits_per_sample <= total


def test_it_is_more_even_than_uniform_ratios(categories: list[Characteristics]) -> None:
    spectra = [each.spectrum for each in categories]

    def imbalance(plan: CapacityPlan) -> float:
        errors = gaussian_reference(spectra, plan.bits.sum(axis=1))
        return errors.max() / errors.min()

    uniform = plan_capacity(CompressionConfig(strategy="uniform"), categories, ROWS)
    assert imbalance(within_wide_bounds("waterfill", categories)) < imbalance(uniform)


def test_bounds_limit_the_factors_and_do_not_stretch_them(categories: list[Characteristics]) -> None:
    factor = get_strategy("waterfill").factor
    assert factor is not None
    expected = np.clip(factor(categories)[:, None] * UNIFORM_RATIOS, [0.25, 0.5, 0.75], [1, 2, 3])
    for rule in ("graded", "spinlock"):
        assert allocate_ratios(CompressionConfig(strategy="waterfill", rule=rule), categories) == pytest.approx(
            expected
        )


def test_bounds_that_cut_too_much_are_used_in_full(categories: list[Characteristics]) -> None:
    bounds = {level: {"low": 1.5, "high": 3} for level in ("L0", "L1", "L2")}  # above every factor's L0
    ratios = allocate_ratios(CompressionConfig(strategy="waterfill", bounds=bounds, min_ratio_range=2), categories)
    assert ratios.max(axis=0) / ratios.min(axis=0) == pytest.approx(2)


def test_copies_of_a_feature_need_no_more_bits() -> None:
    x = np.random.default_rng(0).normal(size=(400, 4))
    copies = np.concatenate([x] * 3, axis=1)
    few, many = characterize(x), characterize(copies)
    bits = minimax([few.spectrum, many.spectrum], 20)
    assert bits == pytest.approx([10, 10])
    factor = get_strategy("waterfill").factor
    assert factor is not None
    assert factor([few, many]).argmax() == 0  # the uniform baseline gives the copies more
