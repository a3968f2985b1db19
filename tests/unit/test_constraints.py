"""Objective, guards and the levelling-down meter."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.analysis.levelling import levelling
from results.analysis.pareto import objectives
from results.records.guards import DIFFERENCES, RATIOS
from study.config import GuardsConfig
from study.search.constraints import guards

FVUS = st.lists(st.floats(0, 1.5), min_size=2, max_size=6)


def broken(metrics, baseline):
    return {name for name, value in guards(metrics, baseline, GuardsConfig()).items() if value > 0}


def test_the_objectives_are_log10_of_the_imbalance_then_mean_and_utilization(make_metrics):
    assert objectives(make_metrics(0.5, 0.05, utilization=0.8)) == pytest.approx((1.0, 0.275, -0.8))


def test_a_baseline_that_is_healthy_keeps_its_own_guards(make_metrics):
    baseline = make_metrics(0.5, 0.1)
    assert broken(baseline, baseline) == set()


@pytest.mark.parametrize(
    ("fvu", "changes", "expected"),
    [
        ((0.51, 0.1), {}, {"fvu_worst"}),
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
    assert {*RATIOS, *DIFFERENCES} == set(guards(make_metrics(0.5, 0.1), make_metrics(0.5, 0.1), GuardsConfig()))
