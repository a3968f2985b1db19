"""Objective, guards and the levelling-down meter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.analysis.levelling import levelling
from results.analysis.pareto import objectives
from results.records.guards import DIFFERENCES, RATIOS
from spinlock_dist.metrics.record import Estimate
from study.config import GuardsConfig
from study.search.constraints import Baseline, guards, penalty

FVUS = st.lists(st.floats(0, 1.5), min_size=2, max_size=6)


def broken(metrics, baseline):
    return {name for name, value in guards(metrics, Baseline(baseline), GuardsConfig()).items() if value > 0}


def test_the_objectives_are_log10_of_the_imbalance_then_mean_and_utilization(make_metrics):
    assert objectives(make_metrics(0.5, 0.05, utilization=0.8)) == pytest.approx((1.0, 0.275, -0.8))


def test_a_baseline_that_is_healthy_keeps_its_own_guards(make_metrics):
    baseline = make_metrics(0.5, 0.1)
    assert broken(baseline, baseline) == set()


@pytest.mark.parametrize(
    ("fvu", "changes", "expected"),
    [
        ((0.53, 0.1), {}, {"fvu_worst"}),
        ((0.51, 0.1), {}, set()),  # two per cent are within what a seed does
        ((0.95, 0.1), {}, {"fvu_worst", "fvu_worst_limit", "fvu_mean"}),
        ((0.5, 0.4), {}, {"fvu_mean"}),
        ((0.5, 0.13), {}, set()),
        ((0.4, 0.1), {"bits_per_sample": 101.1}, {"bits"}),
        ((0.4, 0.1), {"bits_per_sample": 98.9}, {"bits"}),
        ((0.4, 0.1), {"bits_per_sample": 99.1}, set()),
        ((0.4, 0.1), {"utilization": 0.89}, {"utilization"}),
        ((0.4, 0.1), {"perplexity_ratio": 0.49}, {"perplexity"}),
    ],
)
def test_each_guard_is_broken_by_what_it_guards_against(make_metrics, fvu, changes, expected):
    assert broken(make_metrics(*fvu, **changes), make_metrics(0.5, 0.1)) == expected


@pytest.mark.parametrize(
    ("name", "guard"), [("utilization", "utilization"), ("perplexity_ratio", "perplexity")], ids=lambda name: name
)
def test_codebooks_are_not_asked_for_more_than_sparse_features_allow(make_metrics, name, guard):
    sparse = make_metrics(0.5, 0.1, **{name: 0.4})
    assert broken(sparse, sparse) == set()
    assert broken(make_metrics(0.4, 0.1, **{name: 0.25}), sparse) == set()
    assert broken(make_metrics(0.4, 0.1, **{name: 0.23}), sparse) == {guard}, "collapsed, beside uniform ratios"


def test_making_everything_equally_bad_is_infeasible(make_metrics):
    levelled = make_metrics(0.5, 0.5)
    assert objectives(levelled)[0] == 0
    assert "fvu_mean" in broken(levelled, make_metrics(0.5, 0.1))


def test_a_worst_category_above_the_limit_is_infeasible_even_if_the_baseline_is_no_better(make_metrics):
    assert broken(make_metrics(0.94, 0.1), make_metrics(0.95, 0.1)) == {"fvu_worst_limit"}


@given(fvu=st.tuples(FVUS, FVUS))
def test_levelling_splits_the_whole_gain_in_log_imbalance(make_metrics, fvu):
    mine, base = (make_metrics(*values) for values in fvu)
    parts = levelling(mine, base)
    gain = base.log10_imbalance - mine.log10_imbalance
    assert parts.worst_helped + parts.best_hurt == pytest.approx(gain, abs=1e-9)


def test_levelling_down_is_told_from_helping(make_metrics):
    base = make_metrics(0.8, 0.1)
    helped, hurt = levelling(make_metrics(0.4, 0.1), base), levelling(make_metrics(0.8, 0.2), base)
    assert (helped.worst_helped, helped.best_hurt) == pytest.approx((math.log10(2), 0))
    assert (hurt.worst_helped, hurt.best_hurt) == pytest.approx((0, math.log10(2)))


def test_every_guard_is_a_ratio_or_a_difference(make_metrics):
    metrics = make_metrics(0.5, 0.1)
    assert {*RATIOS, *DIFFERENCES} == set(guards(metrics, Baseline(metrics), GuardsConfig()))


def resampled(log_worst, spread, seed):
    """Logs of the worst category's error in 200 resamples that lie `spread` apart, and their estimate."""
    rows = np.random.default_rng(seed).normal(0, spread, 200)
    figures = {name: (log_worst + rows).tolist() for name in ("fvu_worst", "fvu_mean")}
    found = Estimate(value=math.exp(log_worst), low=math.exp(log_worst - 2 * spread), high=1.0)
    return {"resampled": figures, "estimates": dict.fromkeys(("imbalance", *figures), found)}


def test_a_guard_on_errors_is_broken_only_where_rows_in_pairs_show_it(make_metrics):
    """A tenth more error, measured on rows that scatter by a tenth: shown only if both scatter alike."""
    baseline = make_metrics(0.3, 0.1, **resampled(math.log(0.3), 0.1, seed=0))
    alike = make_metrics(0.33, 0.1, **resampled(math.log(0.33), 0.1, seed=0))
    apart = make_metrics(0.33, 0.1, **resampled(math.log(0.33), 0.1, seed=1))
    assert broken(alike, baseline) >= {"fvu_worst"}
    assert broken(apart, baseline) == set()
    assert Baseline(baseline).log_ratio(alike, "fvu_worst") == pytest.approx((math.log(1.1), 0.02 * math.sqrt(2)))


def test_seeds_of_the_baseline_that_lie_far_apart_leave_a_trial_the_benefit_of_the_doubt(make_metrics):
    trial, first = make_metrics(0.6, 0.1), make_metrics(0.5, 0.1)
    alone, apart = Baseline(first), Baseline(first, (make_metrics(0.7, 0.1),))
    assert guards(trial, alone, GuardsConfig())["fvu_worst"] > 0 > guards(trial, apart, GuardsConfig())["fvu_worst"]


@given(fvu=st.tuples(FVUS, FVUS), more=st.floats(1, 2))
def test_the_penalty_grows_from_nothing_with_the_excess(make_metrics, fvu, more):
    mine, base = (make_metrics(*values) for values in fvu)
    baseline = Baseline(base)
    assert penalty(base, baseline, GuardsConfig()) == 0
    worse = make_metrics(*(more * value for value in fvu[0]))
    assert penalty(worse, baseline, GuardsConfig()) >= penalty(mine, baseline, GuardsConfig()) - 1e-12


def test_the_penalty_counts_powers_of_ten(make_metrics):
    base = make_metrics(0.5, 0.1)
    expected = math.log10(0.8 / 0.5) + math.log10(0.45 / 0.3 / 1.05)
    assert penalty(make_metrics(0.8, 0.1), Baseline(base), GuardsConfig()) == pytest.approx(expected)
