"""The water-filling strategies: over fitting bounds the plan is the Gaussian allocation itself."""

from __future__ import annotations

import numpy as np
import pytest

from spinlock_dist.compression.bounds import allocate_ratios
from spinlock_dist.compression.characteristics import Characteristics, characterize
from spinlock_dist.compression.limits import gaussian_reference, minimax, minimum_mean
from spinlock_dist.compression.sizing import CapacityPlan, plan_capacity
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


def over_fitting_bounds(strategy: str, categories: list[Characteristics]) -> CapacityPlan:
    need = get_strategy(strategy).need
    assert need is not None
    span = 2 ** need(categories).max()
    low = min(4 / span / max(UNIFORM_RATIOS), 1.0)
    bounds = {
        level: {"low": low * ratio, "high": low * ratio * span}
        for level, ratio in zip(("L0", "L1", "L2"), UNIFORM_RATIOS, strict=True)
    }
    config = CompressionConfig(strategy=strategy, bounds=bounds, max_codes=10**6, min_rows_per_code=1)
    return plan_capacity(config, categories, ROWS)


@pytest.mark.parametrize(("strategy", "allocate"), [("waterfill", minimax), ("waterfill_mean", minimum_mean)])
def test_the_plan_is_the_allocation(strategy: str, allocate, categories: list[Characteristics]) -> None:
    total = plan_capacity(CompressionConfig(strategy="uniform"), categories, ROWS).bits_per_sample
    wanted = allocate([each.spectrum for each in categories], total, floor_bits=1.0)
    plan = over_fitting_bounds(strategy, categories)
    assert plan.bits.sum(axis=1) == pytest.approx(wanted, abs=0.5)  # codes are whole numbers
    assert total * 0.99 <= plan.bits_per_sample <= total


def test_each_is_better_at_what_it_is_for(categories: list[Characteristics]) -> None:
    spectra, sizes = [each.spectrum for each in categories], [each.features for each in categories]

    def reference(plan: CapacityPlan) -> tuple[float, float]:
        errors = gaussian_reference(spectra, plan.bits.sum(axis=1))
        return errors.max() / errors.min(), float(np.average(errors, weights=sizes))

    uniform = reference(plan_capacity(CompressionConfig(strategy="uniform"), categories, ROWS))
    fair, cheap = (reference(over_fitting_bounds(name, categories)) for name in ("waterfill", "waterfill_mean"))
    assert fair[0] < min(cheap[0], uniform[0])
    assert cheap[1] < min(fair[1], uniform[1])


@pytest.mark.parametrize("name", ["waterfill", "waterfill_mean"])
def test_needs_start_at_zero_and_there_is_no_table(name: str, categories: list[Characteristics]) -> None:
    strategy = get_strategy(name)
    assert strategy.need is not None and strategy.published is None
    needs = strategy.need(categories)
    assert needs.min() == 0 and needs.max() > 0
    graded, published = (
        allocate_ratios(CompressionConfig(strategy=name, rule=rule), categories) for rule in ("graded", "spinlock")
    )
    assert (graded == published).all()


def test_copies_of_a_feature_need_no_more_bits() -> None:
    x = np.random.default_rng(0).normal(size=(400, 4))
    copies = np.concatenate([x] * 3, axis=1)
    few, many = characterize(x), characterize(copies)
    bits = minimax([few.spectrum, many.spectrum], 20)
    assert bits == pytest.approx([10, 10])
    need = get_strategy("waterfill").need
    assert need is not None
    assert need([few, many]).argmax() == 0  # the uniform baseline gives the copies more
