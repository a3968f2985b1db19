"""Log ratios with their errors against plain references, and how often they are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.verdict.contrasts import Contrast, contrast, holm, rank_ranges


@pytest.fixture(scope="module")
def arm(make_metrics):
    """Return a builder of test metrics by replicate, from logs of the imbalance `[R]` and of its resamples `[R, B]`."""

    def build(measured, resampled=None):
        return {
            number: replace(
                make_metrics(0.1 * np.exp(value), 0.1, split="test"),
                imbalance=float(np.exp(value)),
                resampled={} if resampled is None else {"imbalance": list(map(float, resampled[number]))},
            )
            for number, value in enumerate(measured)
        }

    return build


def test_rows_seeds_and_shared_training_rows_add_up(arm):
    """Each part by hand: the ratio less its bias, the variance over resamples of the mean, and that over replicates."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1.0, 0.2, 4), rng.normal(1.5, 0.2, 4)
    ours_RB, theirs_RB = (each[:, None] + rng.normal(0.1, 0.3, (4, 200)) for each in (ours, theirs))
    found = contrast(arm(ours, ours_RB), arm(theirs, theirs_RB), "imbalance", overlap=0.5)
    corrected = 2 * (ours - theirs) - (ours_RB - theirs_RB).mean(axis=1)
    rows = (ours_RB - theirs_RB).mean(axis=0).var(ddof=1)
    seeds = corrected.var(ddof=1) * (1 / 4 + 0.5)
    assert found.log_ratio == pytest.approx(corrected.mean())
    assert found.error == pytest.approx(np.sqrt(rows + seeds))
    assert found.freedom == pytest.approx((rows + seeds) ** 2 / (rows**2 / 199 + seeds**2 / 3))


def test_noise_of_rows_that_both_arms_share_cancels(arm):
    rng = np.random.default_rng(0)
    shared_B = rng.normal(0, 0.5, 200)
    ours, theirs = np.array([1.0, 1.01, 0.99]), np.array([1.5, 1.52, 1.49])
    found = contrast(arm(ours, ours[:, None] + shared_B), arm(theirs, theirs[:, None] + shared_B), "imbalance", 0)
    assert found.error == pytest.approx((ours - theirs).std(ddof=1) / np.sqrt(3))
    assert found.freedom == pytest.approx(2)


def test_without_resamples_only_replicates_tell(arm):
    x = np.log([0.62, 0.71, 0.35, 0.84, 0.55, 0.93, 1.04, 0.48])
    effect = contrast(arm(x), arm(0 * x), "imbalance", overlap=0).effect(0.95)
    half = 2.364624 * x.std(ddof=1) / np.sqrt(8)  # t table: 97.5 % of 7 degrees of freedom
    assert effect.ratio == pytest.approx(np.exp(x.mean()))
    assert (effect.low, effect.high) == pytest.approx((np.exp(x.mean() - half), np.exp(x.mean() + half)), rel=1e-5)
    assert effect.replicates == 8


def test_only_common_replicates_count(arm):
    ours, theirs = arm([1.0, 2.0, 3.0]), arm([0.5, 1.0, 1.5])
    del ours[1]
    assert contrast(ours, theirs, "imbalance", 0).log_ratio == pytest.approx((0.5 + 1.5) / 2)
    del ours[2]
    assert contrast(ours, theirs, "imbalance", 0) is None


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=8))
def test_swapping_the_arms_inverts_the_effect(arm, logs):
    zero = arm([0.0] * len(logs))
    effect = contrast(arm(np.abs(logs)), zero, "imbalance", 0.3).effect(0.99)
    swapped = contrast(zero, arm(np.abs(logs)), "imbalance", 0.3).effect(0.99)
    assert (swapped.ratio, swapped.low) == pytest.approx((1 / effect.ratio, 1 / effect.high), rel=1e-6)


def test_arms_that_are_the_same_show_nothing(arm):
    same = contrast(arm([1.0, 2.0]), arm([1.0, 2.0]), "imbalance", 0.6)
    effect = same.effect(0.99)
    assert (effect.ratio, effect.low, effect.high, same.p) == (1, 1, 1, 1)


def test_p_and_interval_agree():
    found = Contrast(-0.5, 0.2, 7, 4)
    assert found.effect(1 - found.p).high == pytest.approx(1)


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


def test_ranks_are_told_apart_only_as_far_as_shown(arm):
    noise = np.random.default_rng(2).normal(0, 0.05, size=(3, 8))
    arms = {"far": arm(1.5 + noise[0]), "b": arm(0.5 + noise[1]), "a": arm(0.49 + noise[2])}
    assert rank_ranges(arms, 0) == {"far": (3, 3), "b": (1, 2), "a": (1, 2)}
    single = {name: {0: metrics[0]} for name, metrics in arms.items()}
    assert rank_ranges(single, 0) == dict.fromkeys(arms, (1, 3))
    assert rank_ranges({"only": arm([1.0, 2.0])}, 0) == {"only": (1, 1)}
