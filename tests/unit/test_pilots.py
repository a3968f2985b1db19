"""The feedback strategy: bits go where pilots measure error, within budget, bounds and epochs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import spinlock_dist.run
import spinlock_dist.training.pilots
from spinlock_dist.compression.capacity import plan_capacity
from spinlock_dist.compression.strategies.feedback import reallocate
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome, run_members, run_trial
from spinlock_dist.training.member import Member
from spinlock_dist.training.pilots import FOLDS, _folds, _without_fold, pilot_lengths
from tests.synthetic import write_table


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", rows=1200, sizes=(30, 4, 10))
    return TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        compression={"strategy": "feedback", "feedback": {"rounds": 1}},
        training={"epochs": 8, "evaluate_every": 2, "batch_size": 128, "device": "cpu"},
        model={"hidden": 8},
    )


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


@given(
    st.lists(st.tuples(st.floats(5, 20), st.floats(1e-4, 0.99), st.integers(1, 40)), min_size=1, max_size=20),
    st.floats(0.1, 1),
)
def test_reallocation_moves_bits_to_the_worse_and_keeps_their_total(categories: list, step: float) -> None:
    bits, fvu, sizes = map(np.array, zip(*categories, strict=True))
    spectra = [np.ones(size) for size in sizes]  # every component is active below an FVU of 1
    moved = reallocate(bits + 1000, fvu, spectra, step) - 1000  # far from the floor
    assert moved.sum() == pytest.approx(bits.sum(), abs=1e-6)
    per_component = (moved - bits) / sizes
    assert (np.diff(per_component[np.argsort(fvu)]) >= -1e-9).all()


def test_equal_errors_leave_the_bits_alone() -> None:
    bits = np.array([10.0, 5.0])
    assert reallocate(bits, np.array([0.2, 0.2]), [np.ones(3), np.ones(7)], 0.6) == pytest.approx(bits)


def test_one_full_step_equalizes_at_high_rate() -> None:
    sizes, bits = np.array([4, 8]), np.array([12.0, 12.0])
    fvu = 2.0 ** (-2 * bits / sizes)  # distortion of unit Gaussians at these bits
    moved = reallocate(bits, fvu, [np.ones(4), np.ones(8)], step=1.0)
    after = 2.0 ** (-2 * moved / sizes)
    assert after[0] == pytest.approx(after[1])


def test_feedback_balances_better_than_uniform_at_no_more_bits(config: TrialConfig, data: PreparedData) -> None:
    uniform = run_trial(config.with_overrides({"compression.strategy": "uniform"}), data)
    outcome = run_trial(config, data)
    assert outcome.validation.imbalance < 0.8 * uniform.validation.imbalance
    assert outcome.validation.fvu_worst < uniform.validation.fvu_worst
    bits = uniform.validation.bits_per_sample
    assert 0.99 * bits <= outcome.validation.bits_per_sample <= bits + 1e-6


def test_pilots_count_towards_the_epochs_and_see_no_validation_row(config: TrialConfig, data: PreparedData) -> None:
    reports: list[EpochMetrics] = []
    outcome = run_trial(config, data, reports.append)
    assert outcome.epochs == 8 and reports[-1].epoch == 8 and reports[-1].finished
    assert reports[0].epoch > 2  # the pilots' epochs came before
    values = data.values.copy()
    values[data.split.validation] = 0
    blind = run_trial(config, PreparedData(**{**data.__dict__, "values": values}))
    assert np.array_equal(blind.tokenizer.plan.codes, outcome.tokenizer.plan.codes)


def test_latent_dimensions_cost_no_pilot(config: TrialConfig, data: PreparedData) -> None:
    reports: list[EpochMetrics] = []
    outcome = run_trial(config.with_overrides({"compression.capacity": "latent"}), data, reports.append)
    assert reports[0].epoch == config.training.evaluate_every
    start = config.compression.model_copy(update={"strategy": config.compression.feedback.start, "capacity": "latent"})
    plan = plan_capacity(start, data.characteristics, len(data.split.train), config.quantizer)
    assert np.array_equal(outcome.tokenizer.plan.dims, plan.dims)
    # Dimensions of finite scalar quantization are bits.
    finite = config.with_overrides({"compression.capacity": "latent", "quantizer.kind": "fsq"})
    reports.clear()
    run_trial(finite, data, reports.append)
    assert reports[0].epoch > sum(pilot_lengths(finite))


@given(st.integers(2, 500), st.integers(1, 10))
def test_long_pilots_last_as_long_as_the_training_after_them(epochs: int, rounds: int) -> None:
    lengths = pilot_lengths(TrialConfig(training={"epochs": epochs}, compression={"feedback": {"rounds": rounds}}))
    short, long, left = lengths[:FOLDS], lengths[FOLDS:], epochs - sum(lengths)
    assert short == [1] * min(FOLDS, epochs - 1) and left >= 1
    if long:
        assert len(long) == rounds and set(long) == {long[0]} and long[0] <= left <= long[0] + rounds
    else:
        assert left <= rounds  # too few to share


def test_every_training_row_is_held_out_once_in_a_cycle(data: PreparedData) -> None:
    folds = _folds(data.split.train, seed=7)
    pilots = [_without_fold(data.split, folds, held_out) for held_out in range(FOLDS)]
    assert np.array_equal(np.sort(np.concatenate([pilot.validation for pilot in pilots])), data.split.train)
    for pilot in pilots:
        assert np.array_equal(np.sort(np.concatenate([pilot.train, pilot.validation])), data.split.train)


def test_ratios_stay_within_the_bounds(config: TrialConfig, data: PreparedData) -> None:
    bounds = {"low": 0.45, "high": 0.55}
    plan = run_trial(config.with_overrides({"compression.bounds.L0": bounds}), data).tokenizer.plan
    assert (plan.ratios[:, 0] >= 0.45).all() and (plan.ratios[:, 0] <= 0.55).all()


def test_a_member_with_pilots_equals_itself_alone(config: TrialConfig, data: PreparedData) -> None:
    configs = [config, config.with_overrides({"compression.strategy": "uniform", "seed": 3})]
    together = run_members(configs, data)
    for member, each in zip(together, configs, strict=True):
        assert isinstance(member, TrialOutcome)
        alone = run_trial(each, data)
        assert member.epochs == alone.epochs == 8
        assert member.validation.fvu == pytest.approx(alone.validation.fvu, rel=1e-3, abs=1e-4)


def test_pilots_of_several_members_run_in_lock_step(
    config: TrialConfig, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings: list[int] = []
    train = spinlock_dist.training.pilots.train

    def counted(members: Sequence[Member], *given: Any) -> None:
        trainings.append(len(members))
        train(members, *given)

    monkeypatch.setattr(spinlock_dist.training.pilots, "train", counted)
    configs = [config.with_overrides({"compression.feedback.step": step}) for step in (0.3, 0.6)]
    wild = config.with_overrides({"training.learning_rate": 1e12})
    *together, diverged = run_members([*configs, wild], data)
    assert trainings[0] == 3 and set(trainings[1:]) == {2}
    assert isinstance(diverged, DivergedError) and "in a pilot" in str(diverged)
    for member, each in zip(together, configs, strict=True):
        assert isinstance(member, TrialOutcome)
        alone = run_trial(each, data)
        assert np.array_equal(member.tokenizer.plan.codes, alone.tokenizer.plan.codes)
        assert member.validation.fvu == pytest.approx(alone.validation.fvu, rel=1e-3, abs=1e-4)


def test_settings_that_cannot_work_are_refused(config: TrialConfig, data: PreparedData) -> None:
    with pytest.raises(ConfigError, match=r"training\.epochs 1 leaves strategy 'feedback' no epoch for a pilot"):
        run_trial(config.with_overrides({"training.epochs": 1}), data)
    with pytest.raises(ConfigError, match="cannot start from itself"):
        run_trial(config.with_overrides({"compression.feedback.start": "feedback"}), data)
    with pytest.raises(DivergedError, match="in a pilot"):
        run_trial(config.with_overrides({"training.learning_rate": 1e12}), data)


def test_settings_work_from_yaml(config: TrialConfig, tmp_path: Path) -> None:
    from spinlock_dist.config_file import dump_config, load_config

    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_what_pilots_cost_is_told(config: TrialConfig, data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, pilots = spinlock_dist.run.plan_by_feedback, 0.3

    def slow(*given: object) -> object:
        time.sleep(pilots)
        return plan(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(spinlock_dist.run, "plan_by_feedback", slow)
    reports: list[EpochMetrics] = []
    run_trial(config, data, reports.append)
    spent = sum(pilot_lengths(config))
    assert [report.epoch - report.trained for report in reports] == [spent] * len(reports)
    assert all(report.seconds >= pilots for report in reports)
