"""Metrics against their definitions and the published outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.categories.category import Category
from spinlock_dist.metrics.codebook_usage import codebook_usage, mean_over_codebooks
from spinlock_dist.metrics.reconstruction import (
    fraction_unexplained,
    fvu_by_category,
    gini,
    imbalance,
    imbalance_by_chance,
    mse_by_category,
)
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.metrics.reference import distance_to_reference
from spinlock_dist.metrics.row_errors import row_errors
from spinlock_dist.metrics.score import score
from spinlock_dist.metrics.scored import Codebook, Scored, pooled
from spinlock_dist.metrics.topology import row_distances, topographic_similarity

ADAPTIVE_10K = [0.002159, 5567.56, 4227.75, 1596.63, 0.001311, 3646.67, 2305.67, 4171.04]
BASELINE_10K = [
    0.116534,
    3611.906,
    494.381,
    0.077545,
    1821.458,
    883.279,
    2559.784,
    831.358,
    213.059,
    1101.240,
    1332.686,
    1729.077,
]


def test_published_imbalances() -> None:
    # The published ratio was taken before the errors were rounded to six decimals: 0.001311 stands for +-0.0000005.
    low, high = (5567.56 / (0.001311 + sign * 5e-7) for sign in (1, -1))
    assert low < 4_247_114 < high
    assert imbalance(ADAPTIVE_10K) == pytest.approx(4_247_114, rel=5e-4)
    assert round(imbalance(BASELINE_10K)) == 46_578


def test_imbalance_floors_a_perfect_category() -> None:
    assert imbalance([0.5, 0.0]) == pytest.approx(5e5)
    assert imbalance([0.0, 0.0]) == 1.0


def test_fvu_is_zero_for_the_target_and_one_for_the_training_mean() -> None:
    rng = np.random.default_rng(0)
    target, mean = rng.normal(3, 2, size=(50, 4)), np.full(4, 2.5)
    assert fraction_unexplained(target, target, mean, (0, 2)) == 0.0
    assert fraction_unexplained(target, np.tile(mean, (50, 1)), mean, (0, 2)) == pytest.approx(1.0)


def test_fvu_of_columns_that_do_not_vary() -> None:
    target, mean = np.ones((5, 2)), np.ones(2)
    assert fraction_unexplained(target, target, mean, (0, 1)) == 0.0
    assert fraction_unexplained(target, target + 1, mean, (0, 1)) == 1.0


def test_category_errors_against_plain_sums() -> None:
    rng = np.random.default_rng(1)
    target, output, mean = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), rng.normal(size=3)
    categories = (Category("a", (0, 2)), Category("b", (1,)))
    fvu = fvu_by_category(target, output, mean, categories)
    squares, spread = ((target - output) ** 2).sum(axis=0), ((target - mean) ** 2).sum(axis=0)
    assert fvu["a"] == pytest.approx((squares[0] + squares[2]) / (spread[0] + spread[2]))
    assert fvu["b"] == pytest.approx(squares[1] / spread[1])
    assert mse_by_category(target, output, categories)["a"] == pytest.approx((squares[0] + squares[2]) / 40)


def test_raw_imbalance_is_scale_times_normalized_imbalance() -> None:
    rng = np.random.default_rng(2)
    target, output = rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) * 0.1
    categories = (Category("a", (0,)), Category("b", (1,)))
    scale = np.array([1.0, 1000.0])
    plain = mse_by_category(target, output, categories)
    raw = mse_by_category(target * scale, output * scale, categories)
    assert raw["b"] / raw["a"] == pytest.approx(1e6 * plain["b"] / plain["a"])


def rebuilt(rows: int, errors: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[Category]]:
    """Return normal targets, outputs with these error variances in categories of two columns, and the categories."""
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(rows, 2 * len(errors)))
    output = target + rng.normal(size=target.shape) * np.sqrt(np.repeat(errors, 2))
    return target, output, [Category(f"c{i}", (2 * i, 2 * i + 1)) for i in range(len(errors))]


def by_chance(target: np.ndarray, output: np.ndarray, categories: list[Category]) -> float:
    errors = row_errors(target, output, np.zeros(target.shape[1]), categories)
    return imbalance_by_chance(errors, errors.resampled())


@pytest.mark.parametrize("rows", [100, 1000])
def test_chance_is_the_imbalance_of_equal_categories(rows: int) -> None:
    found, promised = [], []
    for seed in range(40):
        target, output, categories = rebuilt(rows, [0.1] * 8, seed)
        found.append(imbalance(fvu_by_category(target, output, np.zeros(16), categories).values()))
        promised.append(by_chance(target, output, categories))
    assert np.median(promised) - 1 == pytest.approx(np.median(found) - 1, rel=0.2)


def test_chance_does_not_grow_with_a_real_imbalance() -> None:
    equal, unequal = (
        by_chance(target, output, categories)
        for target, output, categories in (rebuilt(500, [0.1] * 3), rebuilt(500, [0.9, 0.1, 0.01]))
    )
    assert unequal == pytest.approx(equal, rel=0.1)


def test_chance_leaves_out_what_cannot_stray() -> None:
    target, output, categories = rebuilt(50, [0.1, 0.1, 0.1])
    output[:, 2:4] = target[:, 2:4]
    target[:, 4:] = output[:, 4:] = 0
    assert by_chance(target, output, categories) == 1
    assert by_chance(target, target, categories) == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_gini_against_mean_absolute_difference(errors: list[float]) -> None:
    values = np.array(errors)
    expected = 0.0
    if values.sum() > 0:
        expected = np.abs(values[:, None] - values).sum() / (2 * len(values) * values.sum())
    assert gini(errors) == pytest.approx(expected, abs=1e-9)


def test_codebook_usage() -> None:
    usage = codebook_usage(np.array([10, 10, 0, 0]))
    assert (usage.used, usage.utilization, usage.rows) == (2, 0.5, 20)
    assert usage.perplexity == pytest.approx(2.0)
    assert usage.entropy_ratio == pytest.approx(0.5)


def test_bits_carried_are_the_entropy_on_the_rows_that_are_scored() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(20, 4))
    even, uneven = codebook_usage(np.array([5, 5, 5, 5])), codebook_usage(np.array([17, 1, 1, 1]))
    books = [
        Codebook("a", "L0", 4, even, uneven),
        Codebook("a", "L1", 4, even, even),
        Codebook("b", "L0", 4, even, even),
    ]
    fold = Scored(
        split="validation",
        target_ND=target,
        output_ND=0.9 * target,
        train_mean_D=np.zeros(4),
        raw_target_ND=target,
        raw_output_ND=0.9 * target,
        categories=(Category("a", (0, 1)), Category("b", (2, 3))),
        spectra=[[1.5, 0.5]] * 2,
        bits_C=np.array([4.0, 2.0]),
        codebooks=books,
    )
    found = score(fold)
    entropy = -(0.85 * np.log2(0.85) + 3 * 0.05 * np.log2(0.05))
    assert found.bits_carried == pytest.approx({"a": entropy + 2, "b": 2.0})
    assert found.bits == {"a": 4.0, "b": 2.0}
    assert found.bits_carried_per_sample == pytest.approx(entropy + 4)
    assert found.carried_share == pytest.approx((entropy + 4) / 6)
    assert found.carried_in_words() == f"{entropy + 4:.1f} of 6.0 bits carried"
    assert found.utilization == 1.0  # which says nothing of it
    other = replace(fold, codebooks=[book._replace(split=even) for book in books])
    assert score(pooled([fold, other])).bits_carried == pytest.approx({"a": (entropy + 2) / 2 + 2, "b": 2.0})


def test_metrics_of_an_earlier_version_know_no_bits_carried(make_metrics: Callable[..., Metrics]) -> None:
    content = asdict(make_metrics(0.5, 0.1))
    for name in ("bits", "bits_carried", "bits_carried_per_sample"):
        del content[name]
    found = Metrics.from_json(content)
    assert found.carried_share is None
    assert found.carried_in_words() == "100.0 bits"
    assert "bits_carried_per_sample" not in found.scalars()


def test_few_rows_cannot_use_many_codes() -> None:
    usage = codebook_usage(np.array([1, 1, 0, 0, 0, 0]))
    assert usage.utilization == pytest.approx(1 / 3)
    assert usage.utilization_of_possible == 1.0


def test_without_codebooks_no_code_is_wasted() -> None:
    assert mean_over_codebooks([]) == 1.0


def test_topographic_similarity() -> None:
    points = np.random.default_rng(3).normal(size=(40, 3))
    distances = row_distances(points)
    assert topographic_similarity(distances, row_distances(2 * points + 1)) == pytest.approx(1.0)
    assert topographic_similarity(distances, row_distances(np.zeros((40, 2)))) == 0.0
    shuffled = np.random.default_rng(4).permutation(points)
    assert abs(topographic_similarity(distances, row_distances(shuffled))) < 0.3


def test_distance_to_reference_is_a_geometric_mean() -> None:
    assert distance_to_reference([0.2, 0.4], [0.1, 0.1]) == pytest.approx(8**0.5)
    assert distance_to_reference([0.1, 0.0], [0.1, 0.0]) == 1.0
