"""Intervals and corrections against plain references, and how often they are wrong."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.verdict.paired_tests import FEW, holm, paired_effect, rank_ranges, widened_interval

RATIOS = (0.62, 0.71, 0.35, 0.84, 0.55, 0.93, 1.04, 0.48)
MANY = (*RATIOS, 0.77, 0.69, 0.81)


def test_few_pairs_are_judged_by_students_t():
    effect = paired_effect(RATIOS)
    x = np.log(RATIOS)
    half = 2.364624 * x.std(ddof=1) / np.sqrt(8)  # t table: 97.5 % of 7 degrees of freedom
    assert effect.method == "t"
    assert effect.ratio == pytest.approx(np.prod(RATIOS) ** (1 / 8))
    assert (effect.low, effect.high) == pytest.approx((np.exp(x.mean() - half), np.exp(x.mean() + half)), rel=1e-5)
    assert (effect.lower_in, effect.pairs) == (7, 8)
    assert effect.p_lower + effect.p_higher == pytest.approx(1)


def test_many_pairs_are_judged_by_all_sign_flips():
    effect = paired_effect(MANY)
    x = np.log(MANY)
    flipped = np.array([np.dot(signs, x) for signs in product((1, -1), repeat=len(x))])
    assert effect.method == "BCa"
    assert effect.p_lower == pytest.approx(np.mean(flipped <= x.sum() + 1e-12))
    assert effect.p_higher == pytest.approx(np.mean(flipped >= x.sum() - 1e-12))
    assert effect.low < effect.ratio < effect.high < 1


def test_a_higher_confidence_makes_a_wider_interval():
    for ratios in (RATIOS, MANY):
        narrow, wide = paired_effect(ratios, 0.9), paired_effect(ratios, 0.99)
        assert wide.low < narrow.low < narrow.high < wide.high


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=FEW - 1))
def test_swapping_the_arms_inverts_the_effect(ratios):
    effect, swapped = paired_effect(ratios), paired_effect([1 / ratio for ratio in ratios])
    assert (swapped.ratio, swapped.low) == pytest.approx((1 / effect.ratio, 1 / effect.high), rel=1e-4)
    assert (swapped.p_lower, swapped.p_higher) == pytest.approx((effect.p_higher, effect.p_lower), abs=1e-6)


@pytest.mark.parametrize("pairs", [2, 6, 20])
def test_arms_that_are_the_same_show_nothing(pairs):
    effect = paired_effect([1.0] * pairs)
    assert (effect.ratio, effect.low, effect.high, effect.method) == (1, 1, 1, "constant")
    assert (effect.p_lower, effect.p_higher) == (1, 1)
    assert paired_effect([0.9] * 6).p_lower == pytest.approx(2**-6)


def test_one_pair_shows_no_effect():
    assert paired_effect([0.5]) is None
    assert paired_effect([]) is None


@pytest.mark.parametrize(("pairs", "studies", "least"), [(6, 300, 0.92), (20, 60, 0.88)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(pairs, studies, least):
    rng = np.random.default_rng(0)
    draws = np.exp(rng.normal(-0.3, 0.4, size=(studies, pairs)))
    held = np.mean([effect.low < np.exp(-0.3) < effect.high for effect in map(paired_effect, draws)])
    assert least <= held < 1


def test_splits_of_the_same_rows_know_less_of_new_data():
    x = np.log(RATIOS)
    half = 2.364624 * x.std(ddof=1) * np.sqrt(1 / 8 + 0.25)
    assert widened_interval(RATIOS, 0.25) == pytest.approx((np.exp(x.mean() - half), np.exp(x.mean() + half)), rel=1e-5)
    plain = paired_effect(RATIOS)
    assert widened_interval(RATIOS, 0) == pytest.approx((plain.low, plain.high))
    assert widened_interval([0.5], 0.25) is None


# ---------------------------------------------------------------- several comparisons


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}
    assert holm({}) == {}


@given(st.dictionaries(st.integers(), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_nothing_and_bonferroni_and_keeps_the_order(p):
    corrected = holm(p)
    for key, value in p.items():
        assert value <= corrected[key] <= min(1, len(p) * value)
    assert sorted(p, key=lambda key: (corrected[key], p[key])) == sorted(p, key=lambda key: p[key])


def test_holm_errs_in_at_most_the_level_of_cases():
    rng = np.random.default_rng(1)
    wrong = [min(holm(dict(enumerate(rng.uniform(size=5)))).values()) <= 0.05 for _ in range(4000)]
    assert 0.04 < np.mean(wrong) < 0.06


def test_ranks_are_told_apart_only_as_far_as_shown():
    noise = np.random.default_rng(2).normal(0, 0.05, size=(3, 8))
    values = {"far": np.exp(1 + noise[0]), "b": np.exp(noise[1]), "a": np.exp(-0.01 + noise[2])}
    assert rank_ranges(values) == {"far": (3, 3), "b": (1, 2), "a": (1, 2)}
    assert rank_ranges({name: value[:1] for name, value in values.items()}) == dict.fromkeys(values, (1, 3))
    assert rank_ranges({"only": [1.0, 2.0]}) == {"only": (1, 1)}
