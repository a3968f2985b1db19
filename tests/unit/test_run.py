"""run_trial and run_members: determinism, independence of members, divergence, early stopping."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spinlock_dist.memory
from spinlock_dist.compression.rate_distortion import fvu_at_rate
from spinlock_dist.config import LossConfig, QuantizerConfig, TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome, lockstep_key, plan_sizes, run_members, run_trial, training_hash
from spinlock_dist.training import losses
from tests.synthetic import write_table

QUICK = {"epochs": 6, "evaluate_every": 2, "batch_size": 64, "device": "cpu"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz")
    return TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}}, training=QUICK, model={"hidden": 8}
    )


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


def test_training_improves_on_its_start_and_reports_every_evaluation(config: TrialConfig, data: PreparedData) -> None:
    start = run_trial(config.with_overrides({"training.epochs": 1, "training.learning_rate": 1e-9}), data)
    reports: list[EpochMetrics] = []
    outcome = run_trial(config.with_overrides({"training.epochs": 30}), data, reports.append)
    assert outcome.evaluate("train").fvu_mean < start.evaluate("train").fvu_mean
    assert [report.epoch for report in reports] == list(range(2, 31, 2))
    assert [report.finished for report in reports] == [False] * 14 + [True]
    assert reports[-1].validation == outcome.validation
    for report in reports:
        refined = report.epoch > 15
        terms = {"reconstruction", "informativeness"} | (set() if refined else {"commitment"})
        assert set(report.losses) == {*terms, "total"}
        weights = {"reconstruction": 1, **config.loss.model_dump()}
        total = sum(weights[term] * report.losses[term] for term in terms)
        assert report.losses["total"] == pytest.approx(total, rel=1e-4)


def test_the_data_start_is_healthy(config: TrialConfig, data: PreparedData) -> None:
    outcome = run_trial(config, data)
    assert outcome.validation.utilization >= 0.95
    assert outcome.validation.collapsed == 0
    assert outcome.validation.fvu_worst < 0.6


def test_same_seed_same_result_other_seed_another(config: TrialConfig, data: PreparedData) -> None:
    first, again = run_trial(config, data), run_trial(config, data)
    other = run_trial(config.with_overrides({"seed": 7}), data)
    assert first.validation == again.validation
    assert first.validation.fvu != other.validation.fvu


def test_same_result_in_another_process(config: TrialConfig, data: PreparedData, repository: Path) -> None:
    script = (
        "from spinlock_dist.config import TrialConfig; from spinlock_dist.prepare import prepare;"
        "from spinlock_dist.run import run_trial; import sys, torch; torch.set_num_threads(1);"
        "config = TrialConfig.model_validate_json(sys.argv[1]);"
        "print(repr(run_trial(config, prepare(config.prepare)).validation.fvu_mean))"
    )
    command = [sys.executable, "-c", script, config.model_dump_json()]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=repository).stdout
    assert float(printed) == pytest.approx(run_trial(config, data).validation.fvu_mean, rel=1e-6)


@pytest.mark.parametrize("levels", ["residual", "parallel"])
@pytest.mark.parametrize("decoder", ["category", "joint", "shared"])
@pytest.mark.parametrize("initialization", ["data", "random"])
def test_members_trained_together_equal_each_alone(
    config: TrialConfig, data: PreparedData, levels: str, decoder: str, initialization: str
) -> None:
    base = config.with_overrides(
        {"model.levels": levels, "model.decoder": decoder, "model.initialization": initialization}
    )
    configs = [
        base.with_overrides({"seed": seed, "compression.strategy": strategy, "training.learning_rate": rate})
        for seed, strategy, rate in [(0, "uniform", 1e-3), (1, "dimensionality", 3e-3), (2, "balanced", 1e-4)]
    ]
    together = run_members(configs, data)
    for member, each in zip(together, configs, strict=True):
        assert isinstance(member, TrialOutcome)
        alone = run_trial(each, data)
        assert member.validation.fvu == pytest.approx(alone.validation.fvu, rel=1e-3, abs=1e-4)
        assert member.validation.bits_per_sample == alone.validation.bits_per_sample
        assert member.evaluate("validation").fvu == pytest.approx(member.validation.fvu, rel=1e-5)


ALONE_OR_TOGETHER: dict[str, dict[str, Any]] = {
    "latent capacity, orthogonality": {"compression.capacity": "latent", "loss.orthogonality": 1.0},
    "latent capacity, topography": {"compression.capacity": "latent", "loss.topographic": 0.1},
    "latent capacity, finite scalars": {
        "compression.capacity": "latent",
        "quantizer.kind": "fsq",
        "loss.orthogonality": 1.0,
    },
    "two values a scalar": {"quantizer.kind": "fsq", "quantizer.fsq_levels": 2},
    "all terms, worst": {
        "loss.orthogonality": 1.0,
        "loss.topographic": 0.1,
        "loss.informativeness": 1.0,
        "loss.commitment": 1.0,
        "loss.reconstruction_balance": "worst",
    },
    "balanced by category": {"loss.reconstruction_balance": "categories"},
    "expiry at every step": {"quantizer.expiry_every": 1, "quantizer.expiry_share": 0.5},
    "slow codebooks": {"quantizer.ema_decay": 0.99, "quantizer.kmeans_iterations": 2},
    "greedy": {"quantizer.beam": 1},
    "several codebooks a level": {"compression.max_codes": 8},
}


def test_every_loss_and_quantizer_setting_is_held_to_be_the_same_alone_and_together() -> None:
    held = {setting for options in ALONE_OR_TOGETHER.values() for setting in options}
    wanted = {f"loss.{name}" for name in LossConfig.model_fields}
    wanted |= {f"quantizer.{name}" for name in QuantizerConfig.model_fields}
    assert wanted <= held


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("options", ALONE_OR_TOGETHER.values(), ids=ALONE_OR_TOGETHER.keys())
def test_losses_and_sizes_of_a_member_do_not_depend_on_the_others(
    config: TrialConfig, data: PreparedData, options: dict[str, Any], engine: str
) -> None:
    # At high rates rounding errors grow within a few epochs, and no longer tell of the arithmetic.
    base = config.with_overrides({**options, "training.engine": engine, "training.learning_rate": 1e-3})
    configs = [
        base.with_overrides({"seed": seed, "compression.strategy": strategy})
        for seed, strategy in enumerate(("uniform", "dimensionality", "balanced"))
    ]
    for member, each in zip(run_members(configs, data), configs, strict=True):
        assert isinstance(member, TrialOutcome)
        assert member.validation.fvu == pytest.approx(run_trial(each, data).validation.fvu, rel=1e-3, abs=1e-4)


def test_eight_members_equal_each_alone(config: TrialConfig, data: PreparedData) -> None:
    configs = [config.with_overrides({"seed": seed, "loss.commitment": 1.0 + seed}) for seed in range(8)]
    together = run_members(configs, data)
    for member, each in zip(together, configs, strict=True):
        assert isinstance(member, TrialOutcome)
        assert member.validation.fvu == pytest.approx(run_trial(each, data).validation.fvu, rel=1e-3, abs=1e-4)


def test_members_equal_each_alone_where_categories_are_of_very_different_size(
    config: TrialConfig, tmp_path: Path
) -> None:
    dataset = write_table(tmp_path / "table.npz", sizes=(8, 4, 36))
    config = config.with_overrides({"prepare.dataset": str(dataset)})
    data = prepare(config.prepare)
    assert len(GroupLayout(data.categories).buckets) == 2
    configs = [config.with_overrides({"compression.strategy": name}) for name in ("uniform", "balanced")]
    for member, each in zip(run_members(configs, data), configs, strict=True):
        assert isinstance(member, TrialOutcome)
        assert member.validation.fvu == pytest.approx(run_trial(each, data).validation.fvu, rel=1e-3, abs=1e-4)
        assert member.evaluate("validation").fvu == pytest.approx(member.validation.fvu, rel=1e-5)


def test_a_diverging_member_is_named_and_the_others_go_on(config: TrialConfig, data: PreparedData) -> None:
    wild = config.with_overrides({"training.learning_rate": 1e12})
    healthy, diverged = run_members([config, wild], data)
    assert isinstance(diverged, DivergedError)
    assert diverged.epoch >= 1 and "loss" in diverged.term
    assert isinstance(healthy, TrialOutcome)
    assert healthy.validation.fvu == pytest.approx(run_trial(config, data).validation.fvu, rel=1e-3, abs=1e-4)
    with pytest.raises(DivergedError, match="is not finite"):
        run_trial(wild, data)


STARTS = [("uniform", 1e-3), ("dimensionality", 3e-3), ("balanced", 1e-4), ("uniform", 1e12)]


@pytest.mark.parametrize("case", range(6))
def test_whoever_leaves_a_batch_when_the_others_end_as_alone(
    config: TrialConfig, data: PreparedData, case: int
) -> None:
    """Members end at random epochs: stopped by their report, diverged, out of patience, or with fewer epochs left."""
    rng, patience = np.random.default_rng(case), [None, 2][case % 2]
    base = config.with_overrides({"training.evaluate_every": 1, "training.epochs": 8, "training.patience": patience})
    starts = [STARTS[at] for at in rng.integers(len(STARTS), size=5)]
    configs = [
        base.with_overrides({"seed": seed, "compression.strategy": strategy, "training.learning_rate": rate})
        for seed, (strategy, rate) in enumerate(starts)
    ]
    stops = dict(enumerate(rng.integers(1, 14, size=5)))
    reached: dict[int, list[EpochMetrics]] = {}

    def report(made: Mapping[int, EpochMetrics]) -> list[int]:
        for member, metrics in made.items():
            reached.setdefault(member, []).append(metrics)
        return [member for member, metrics in made.items() if metrics.epoch == stops[member] and not metrics.finished]

    for member, outcome in enumerate(run_members(configs, data, report)):
        alone: list[EpochMetrics] = []
        [expected] = run_members([configs[member]], data, lambda made, alone=alone: alone.append(made[0]) or ())
        if isinstance(expected, DivergedError):
            assert str(outcome) == str(expected)
            continue
        assert isinstance(expected, TrialOutcome)
        made = reached[member]
        assert [metrics.epoch for metrics in made] == [metrics.epoch for metrics in alone][: len(made)]
        for metrics, each in zip(made, alone, strict=False):
            assert metrics.validation.fvu == pytest.approx(each.validation.fvu, rel=1e-3, abs=1e-4)
        if outcome is None:
            assert made[-1].epoch == stops[member]
        else:
            assert isinstance(outcome, TrialOutcome)
            assert (outcome.epochs, made[-1].finished) == (expected.epochs, True)
            assert outcome.validation.fvu == pytest.approx(expected.validation.fvu, rel=1e-3, abs=1e-4)
            assert outcome.evaluate("validation").fvu == pytest.approx(outcome.validation.fvu, rel=1e-5)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Makes the gradients of a step infinite for one member, under a loss that is what it was."""

    def poison(step: int, gradients_M: list[float]) -> list[int]:
        reconstruction, steps = losses.reconstruction, [0]

        def called(results, scale, by):
            steps[0] += 1
            value_M = reconstruction(results, scale, by)
            if steps[0] == step:
                value_M.register_hook(lambda gradient_M: gradient_M * torch.tensor(gradients_M))
            return value_M

        monkeypatch.setattr(losses, "reconstruction", called)
        return steps

    return poison


def test_a_gradient_that_is_not_finite_under_a_finite_loss_ends_its_member_alone(
    config: TrialConfig, data: PreparedData, poisoned: Callable[..., list[int]]
) -> None:
    config = config.with_overrides({"training.engine": "torch"})  # whose gradients can be reached
    other = config.with_overrides({"seed": 1})
    expected, _ = run_members([config, other], data)
    poisoned(8, [1.0, np.inf])
    healthy, diverged = run_members([config, other], data)
    assert isinstance(diverged, DivergedError)
    steps_an_epoch = len(data.split.train) // config.training.batch_size
    assert (diverged.epoch, diverged.term) == (-(-8 // steps_an_epoch), "the gradient")  # epochs count from 1
    assert isinstance(healthy, TrialOutcome) and isinstance(expected, TrialOutcome)
    assert healthy.validation.fvu == pytest.approx(expected.validation.fvu, rel=1e-3)


def test_the_epoch_of_a_divergence_counts_pilots_as_reports_do(
    config: TrialConfig, data: PreparedData, poisoned: Callable[..., list[int]]
) -> None:
    measured = config.with_overrides(
        {"compression.strategy": "feedback", "training.epochs": 12, "training.engine": "torch"}
    )
    steps = poisoned(-1, [])
    run_trial(measured, data)
    poisoned(steps[0], [np.nan])  # in the last step of all
    with pytest.raises(DivergedError, match="diverged in epoch 12: the gradient is not finite"):
        run_trial(measured, data)


def test_settings_that_cannot_be_end_their_own_member_alone(config: TrialConfig, data: PreparedData) -> None:
    coarse = config.with_overrides({"compression.min_rows_per_code": 10**6})
    refused, healthy = run_members([coarse, config], data)
    assert isinstance(refused, ConfigError)
    assert "every codebook has one code" in str(refused)
    assert isinstance(healthy, TrialOutcome)
    assert healthy.validation == run_trial(config, data).validation
    assert [type(each) for each in run_members([coarse, coarse], data)] == [ConfigError, ConfigError]


def test_what_can_be_trained_together_has_the_same_key(config: TrialConfig, data: PreparedData) -> None:
    free = {"seed": 5, "compression.sharpness": 2.0, "loss.commitment": 0.1, "training.learning_rate": 1e-4}
    assert lockstep_key(config.with_overrides(free)) == lockstep_key(config)
    for setting, value in {"model.hidden": 9, "training.epochs": 7, "loss.reconstruction_balance": "worst"}.items():
        other = config.with_overrides({setting: value})
        assert lockstep_key(other) != lockstep_key(config)
        with pytest.raises(ConfigError, match="must be the same"):
            run_members([config, other], data)


def test_early_stopping_keeps_the_best_evaluation(config: TrialConfig, data: PreparedData) -> None:
    restless = config.with_overrides(
        {"training.patience": 2, "training.epochs": 200, "training.learning_rate": 0.03, "training.evaluate_every": 1}
    )
    reports: list[EpochMetrics] = []
    outcome = run_trial(restless, data, reports.append)
    worst = [report.validation.fvu_worst for report in reports]
    assert len(reports) < 200 and reports[-1].finished
    assert outcome.validation.fvu_worst == min(worst)
    assert outcome.evaluate("validation").fvu_worst == pytest.approx(min(worst), rel=1e-5)
    assert worst.index(min(worst)) == len(worst) - 3


def test_what_a_report_raises_ends_the_trial(config: TrialConfig, data: PreparedData) -> None:
    def stop(_: EpochMetrics) -> None:
        raise InterruptedError("stopped by the scheduler")

    with pytest.raises(InterruptedError):
        run_trial(config, data, stop)


def test_configs_that_cannot_share_a_batch_are_refused(config: TrialConfig, data: PreparedData) -> None:
    with pytest.raises(ConfigError, match=r"model\.hidden must be the same"):
        run_members([config, config.with_overrides({"model.hidden": 9})], data)


def test_an_absent_device_is_refused(config: TrialConfig, data: PreparedData) -> None:
    with pytest.raises(ConfigError, match=r"training\.device"):
        run_trial(config.with_overrides({"training.device": "cuda:63"}), data)


@pytest.mark.parametrize("term", ["orthogonality", "topographic"])
@pytest.mark.parametrize("balance", ["features", "categories", "worst"])
def test_optional_terms_and_balances_train(config: TrialConfig, data: PreparedData, term: str, balance: str) -> None:
    reports: list[EpochMetrics] = []
    chosen = config.with_overrides({f"loss.{term}": 0.1, "loss.reconstruction_balance": balance})
    run_trial(chosen, data, reports.append)
    assert term in reports[0].losses
    assert all(np.isfinite(value) for report in reports for value in report.losses.values())


def test_capacity_latent_is_nearly_inert_and_codes_move_errors(config: TrialConfig, data: PreparedData) -> None:
    uniform = run_trial(config.with_overrides({"compression.strategy": "uniform"}), data)
    changes = {}
    for capacity in ("latent", "codes"):
        chosen = config.with_overrides({"compression.strategy": "dimensionality", "compression.capacity": capacity})
        outcome = run_trial(chosen, data)
        changes[capacity] = max(
            abs(np.log(outcome.validation.fvu[n] / uniform.validation.fvu[n])) for n in uniform.validation.fvu
        )
    assert changes["codes"] > 2 * changes["latent"]


def test_every_trial_knows_its_distance_to_the_reference(config: TrialConfig, data: PreparedData) -> None:
    outcome = run_trial(config, data)
    score, bits = outcome.validation, outcome.tokenizer.plan.bits.sum(axis=1)
    for category, characteristics, spent in zip(data.categories, data.characteristics, bits, strict=True):
        assert score.reference_fvu[category.name] == pytest.approx(fvu_at_rate(characteristics.spectrum, spent))
    assert 0.5 < score.reference_distance < 10


def test_a_training_is_known_by_its_plan_and_not_by_how_it_came_about(data: PreparedData) -> None:
    def hash_of(**given: object) -> str:
        return training_hash(TrialConfig().with_overrides({f"compression.{k}": v for k, v in given.items()}), data)

    uniform = hash_of(strategy="uniform")
    assert hash_of(strategy="uniform", rule="spinlock", sharpness=2.0, capacity="latent") == uniform
    assert hash_of(strategy="balanced") != uniform
    assert hash_of(strategy="balanced", sharpness=2.0) != hash_of(strategy="balanced")
    assert hash_of(strategy="feedback") != hash_of(strategy="feedback", min_rows_per_code=20)
    assert training_hash(TrialConfig(seed=1), data) != training_hash(TrialConfig(), data)


def test_trainings_that_differ_in_what_nothing_reads_are_one(data: PreparedData) -> None:
    for given, unread in (
        ({}, {"model.shared_hidden": 64, "quantizer.fsq_levels": 5}),
        ({"quantizer.kind": "fsq"}, {"training.refine_share": 0.25, "quantizer.ema_decay": 0.9}),
        ({"compression.strategy": "feedback"}, {"compression.bounds.L0.low": 0.3, "compression.sharpness": 2.0}),
    ):
        config = TrialConfig().with_overrides(given)
        assert training_hash(config.with_overrides(unread), data) == training_hash(config, data)


def test_trainings_are_one_only_if_they_are_on_every_fold(config: TrialConfig) -> None:
    """On one fold two settings come to the same codes; the other has a row more, with which one has a code more."""
    folds = prepare(config.with_overrides({"prepare.split.test": 0.31, "prepare.split.folds": 2}).prepare)
    fewer, more = sorted((folds.fold(number) for number in range(2)), key=lambda fold: len(fold.split.train))
    assert (len(fewer.split.train), len(more.split.train)) == (103, 104)
    one, other = (config.with_overrides({"compression.min_rows_per_code": rows}) for rows in (26, 27))
    for data, same in ((fewer, True), (more, False)):
        assert np.array_equal(plan_sizes(one, data).codes, plan_sizes(other, data).codes) is same
        assert (training_hash(one, data) == training_hash(other, data)) is same
    assert training_hash(one, folds) != training_hash(other, folds)


@pytest.mark.parametrize("setting", ["model.hidden", "model.shared_hidden"])
def test_a_model_beyond_the_memory_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    config = TrialConfig(
        prepare={"dataset": str(write_table(tmp_path / "table.npz", rows=160)), "categories": {"count": 3}},
        training={"epochs": 1, "device": "cpu"},
        model={"decoder": "shared" if "shared" in setting else "category"},
    )
    data = prepare(config.prepare)
    monkeypatch.setattr(spinlock_dist.memory, "available_memory", lambda: 2_000_000)
    with pytest.raises(
        ConfigError, match=r"hidden units .* would need [\d.]+ GB of memory, 2 MB are free; lower model"
    ):
        run_trial(config.with_overrides({setting: 100_000_000}), data)
    assert run_trial(config, data).epochs == 1
