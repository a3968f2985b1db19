"""The feedback strategy: bits go where codecs measure error out of fold, within the budget, before any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.baselines.pilots import _Pilots, measured_plan
from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity, size_stages, stage_sizes
from spinlock_dist.compression.strategies.feedback import equal_errors
from spinlock_dist.config import CompressionConfig, TrialConfig
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_members, run_trial
from tests.synthetic import write_table


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", rows=800, sizes=(30, 4, 10))
    return TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        compression={"strategy": "feedback"},
        training={"epochs": 4, "evaluate_every": 2, "batch_size": 128, "device": "cpu"},
        model={"hidden": 8},
    )


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


@pytest.fixture(scope="module")
def uniform(config: TrialConfig, data: PreparedData) -> CapacityPlan:
    return plan_capacity(CompressionConfig(strategy="uniform"), data.characteristics, len(data.split.train))


@pytest.fixture(scope="module")
def plan(config: TrialConfig, data: PreparedData) -> CapacityPlan:
    return measured_plan(config, data)


# ---------------------------------------------------------------- bits at equal errors

COMPONENTS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@given(COMPONENTS, st.integers(0, 1000))
def test_one_measurement_of_gaussians_equalizes_them_by_theory(sizes: list[int], seed: int) -> None:
    # At high rate the error is 2 ** (-2 * bits / components), where theory is exact.
    components = np.array(sizes)
    bits = np.random.default_rng(seed).uniform(2, 4, len(sizes)) * components
    spectra = [np.ones(each) for each in sizes]
    measured = [[(each, -2 * each / n)] for each, n in zip(bits, sizes, strict=True)]
    moved = equal_errors(measured, spectra, bits.sum(), most=1e6)
    assert moved.sum() == pytest.approx(bits.sum())
    assert -2 * moved / components == pytest.approx(np.full(len(sizes), -2 * bits.sum() / components.sum()), abs=1e-6)


def test_between_measurements_the_error_is_what_was_measured() -> None:
    # The first category is far worse below 6 bits than theory says: it is taken no further than 7.
    measured = [[(10.0, -8.0), (6.0, -2.0)], [(10.0, -2.0), (14.0, -4.0)]]
    moved = equal_errors(measured, [np.ones(4), np.ones(4)], 20.0, most=100.0)
    assert 6.0 < moved[0] < 8.0 and moved.sum() == pytest.approx(20.0)
    errors = np.interp(moved[0], [6, 10], [-2, -8]), np.interp(moved[1], [10, 14], [-2, -4])
    assert errors[0] == pytest.approx(errors[1], abs=1e-6)


def test_where_more_bits_were_measured_worse_fewer_are_taken() -> None:
    measured = [[(8.0, -3.0), (10.0, -2.9), (12.0, -5.0)], [(8.0, -3.0)]]
    assert equal_errors(measured, [np.ones(4), np.ones(4)], 16.0, most=100.0) == pytest.approx([8.0, 8.0])


def test_none_gets_less_than_a_bit_or_more_than_it_can_hold() -> None:
    measured = [[(9.0, -30.0)], [(9.0, -1.0)], [(9.0, 0.0)]]
    moved = equal_errors(measured, [np.ones(3)] * 3, 27.0, most=13.5)
    assert moved[0] == 1.0 and moved[2] == 13.5 and moved.sum() == pytest.approx(27.0)


def test_a_category_that_bits_no_longer_help_keeps_the_fewest_that_do_as_well() -> None:
    measured = [[(8.0, 0.0), (12.0, -1.0), (20.0, -1.01)], [(8.0, -2.0)], [(8.0, -3.0)]]
    moved = equal_errors(measured, [np.ones(4)] * 3, 30.0, most=100.0)
    assert 11.5 < moved[0] <= 12.0, "the first is the worst whatever it gets"
    assert moved.sum() == pytest.approx(30.0) and moved[1] > moved[2], "the others share what it leaves"


@given(st.lists(st.floats(1, 20), min_size=1, max_size=6), st.floats(1, 3))
def test_no_bits_are_lost_where_none_help_any_more(bits: list[float], more: float) -> None:
    measured = [[(each, -2.0), (2 * each + 1, -2.0)] for each in bits]
    total = more * sum(bits)
    moved = equal_errors(measured, [np.ones(3)] * len(bits), total, most=1e6)
    assert moved.sum() == pytest.approx(total) and (moved >= 1).all()


# ---------------------------------------------------------------- bits among codebooks


@given(st.floats(1, 40), st.integers(1, 9), st.integers(2, 200))
def test_stages_share_the_bits_of_a_category_equally(bits: float, stages: int, most: int) -> None:
    sizes = stage_sizes(bits, stages, most)
    assert len(sizes) <= stages and max(sizes) <= most
    share = min(bits / stages, np.log2(most))
    if share >= 2:
        assert np.log2(sizes) == pytest.approx(np.full(stages, share), abs=1.0)
        assert np.log2(sizes).sum() == pytest.approx(share * stages, abs=0.5)


def test_the_first_codebooks_are_those_of_the_levels(data: PreparedData, uniform: CapacityPlan) -> None:
    rows, bits = len(data.split.train), uniform.bits.sum(axis=1)
    plan = size_stages(CompressionConfig(), bits, np.array([1, 3, 5]), data.characteristics, rows, 60)
    used = [[list(level > 1) for level in category] for category in plan.codes]
    assert used == [
        [[True, False], [False, False], [False, False]],
        [[True, False], [True, False], [True, False]],
        [[True, True], [True, True], [True, False]],
    ]
    assert 0.99 * uniform.bits_per_sample <= plan.bits_per_sample <= uniform.bits_per_sample + 1e-9
    assert np.array_equal(plan.dims, uniform.dims)


# ---------------------------------------------------------------- the strategy


def test_feedback_balances_better_than_uniform_at_no_more_bits(config: TrialConfig, data: PreparedData) -> None:
    baseline = run_trial(config.with_overrides({"compression.strategy": "uniform"}), data).validation
    reports: list[EpochMetrics] = []
    outcome = run_trial(config, data, reports.append)
    assert outcome.validation.imbalance < 0.8 * baseline.imbalance
    assert outcome.validation.fvu_worst < baseline.fvu_worst
    bits = baseline.bits_per_sample
    assert 0.99 * bits <= outcome.validation.bits_per_sample <= bits + 1e-6
    assert [report.epoch for report in reports] == [2, 4], "all epochs are left for the training"


def test_pilots_see_training_rows_alone(config: TrialConfig, data: PreparedData, plan: CapacityPlan) -> None:
    values = data.values.copy()
    values[data.split.validation] = values[data.split.test] = 0
    blind = PreparedData(**{**data.__dict__, "values": values})
    assert np.array_equal(measured_plan(config, blind).codes, plan.codes)


def test_where_nothing_can_be_gained_the_plan_is_that_of_uniform(config: TrialConfig, data: PreparedData) -> None:
    full = config.with_overrides({"compression.max_codes": 2, "compression.max_codebooks": 1})
    settings = full.compression.model_copy(update={"strategy": "uniform"})
    expected = plan_capacity(settings, data.characteristics, len(data.split.train))
    assert np.array_equal(measured_plan(full, data).codes, expected.codes)


def test_heavy_tails_count_as_worse_than_measured(config: TrialConfig, data: PreparedData) -> None:
    tails = data.values.copy()
    heavy = list(data.categories[2].columns)
    tails[:, heavy] = np.sinh(2 * tails[:, heavy])
    heavy_tailed = PreparedData(**{**data.__dict__, "values": tails})
    trusting, wary = (
        measured_plan(config.with_overrides({"compression.feedback.risk": risk}), heavy_tailed).bits.sum(axis=1)
        for risk in (0.0, 3.0)
    )
    assert wary[2] > trusting[2]


def test_light_tails_are_measured_as_they_are(config: TrialConfig, data: PreparedData, uniform: CapacityPlan) -> None:
    # Signs, and a little noise: what two codes leave is nearly the same in every row.
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(data.values), 1))
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, data.values.shape)
    light = PreparedData(**{**data.__dict__, "values": (signs + noise).astype(data.values.dtype)})
    trusting, wary = (
        _Pilots(config.with_overrides({"compression.feedback.risk": risk}), light, uniform).error(0, (2,))
        for risk in (0.0, 5.0)
    )
    assert wary == trusting


def test_a_category_counts_as_twice_its_error_at_most(
    config: TrialConfig, data: PreparedData, uniform: CapacityPlan
) -> None:
    heavy = PreparedData(**{**data.__dict__, "values": np.sinh(3 * data.values)})
    measured, counted = (
        _Pilots(config.with_overrides({"compression.feedback.risk": risk}), heavy, uniform).error(0, (16,))
        for risk in (0.0, 1000.0)
    )
    assert counted == pytest.approx(measured + 1)


def test_rows_that_no_code_is_like_take_no_bits_from_others(
    config: TrialConfig, data: PreparedData, uniform: CapacityPlan
) -> None:
    # A hundredth of the rows have most of the squares of a category, each its own: out of fold no bits rebuild them.
    values, hopeless = data.values.copy(), list(data.categories[2].columns)
    drawn = np.random.default_rng(0)
    values[:, hopeless] = drawn.integers(0, 2, (len(values), 1))
    outliers = drawn.choice(len(values), len(values) // 100, replace=False)
    values[np.ix_(outliers, hopeless)] = 30 * drawn.standard_normal((len(outliers), len(hopeless)))
    found = measured_plan(config, PreparedData(**{**data.__dict__, "values": values})).bits.sum(axis=1)
    assert found[2] == pytest.approx(uniform.bits[2].sum(), rel=0.05)
    assert found[:2].sum() == pytest.approx(uniform.bits[:2].sum(), rel=0.05)


def test_latent_dimensions_and_finite_scalars_move_as_the_bits_would(
    config: TrialConfig, data: PreparedData, uniform: CapacityPlan, plan: CapacityPlan
) -> None:
    moved = plan.bits.sum(axis=1) > uniform.bits.sum(axis=1)
    latent = measured_plan(config.with_overrides({"compression.capacity": "latent"}), data)
    assert np.array_equal(latent.codes, uniform.codes) and latent.dims.sum() == uniform.dims.sum()
    assert (latent.ratios[moved, 0] > 0.5).all() and (latent.ratios[~moved, 0] <= 0.5).all()
    finite = measured_plan(config.with_overrides({"quantizer.kind": "fsq"}), data)
    assert finite.bits_per_sample <= uniform.bits_per_sample + 1e-9
    assert finite.bits.sum(axis=1)[moved].sum() > uniform.bits.sum(axis=1)[moved].sum()


def test_a_member_with_pilots_equals_itself_alone(config: TrialConfig, data: PreparedData) -> None:
    configs = [config, config.with_overrides({"compression.strategy": "uniform", "seed": 1})]
    for each, member in zip(configs, run_members(configs, data), strict=True):
        alone = run_trial(each, data)
        assert np.array_equal(member.tokenizer.plan.codes, alone.tokenizer.plan.codes)
        assert member.validation.fvu == pytest.approx(alone.validation.fvu, rel=1e-3, abs=1e-4)


def test_settings_work_from_yaml(config: TrialConfig, tmp_path: Path) -> None:
    from spinlock_dist.config_file import dump_config, load_config

    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_what_was_measured_is_not_measured_again_for_another_training(data, monkeypatch) -> None:
    from spinlock_dist.baselines import pilots

    counted = []
    monkeypatch.setattr(pilots, "_PLANS", {})
    monkeypatch.setattr(pilots, "measured_plan", lambda config, data: counted.append(config) or object())
    config = TrialConfig().with_overrides({"compression.strategy": "feedback"})
    one = pilots.plan_by_pilots(config, data)
    assert pilots.plan_by_pilots(config.with_overrides({"training.learning_rate": 1e-3}), data) is one
    others = [
        pilots.plan_by_pilots(config.with_overrides({"compression.feedback.risk": 0.5}), data),
        pilots.plan_by_pilots(config.with_overrides({"seed": 7}), data),
        pilots.plan_by_pilots(config.with_overrides({"quantizer.beam": 1}), data),
        pilots.plan_by_pilots(config, data.fold(1)),
    ]
    assert len(counted) == 1 + len({id(each) for each in others}) == 5
