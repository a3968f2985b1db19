"""Snapshots: an interrupted training that is resumed ends exactly as one that was not interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DivergedError
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.model.quantizers import QUANTIZERS
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome, run_members, run_trial
from spinlock_dist.training.snapshot import Snapshots, discard
from spinlock_dist.training.trainer import MembersReport
from tests.synthetic import write_table

EPOCHS = 8


class Killed(BaseException):
    """What ends a process, as far as the core can tell."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", sizes=(8, 4, 36))  # two buckets
    return TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        training={"epochs": EPOCHS, "evaluate_every": 2, "batch_size": 64, "device": "cpu"},
        quantizer={"expiry_every": 3},
        model={"hidden": 8},
    )


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trial-0007"


def interrupt(config: TrialConfig, data: PreparedData, path: Path, epoch: int) -> None:
    """Run a trial that dies right after its report of `epoch`, before it can save that."""

    def report(metrics: EpochMetrics) -> None:
        if metrics.epoch >= epoch:
            raise Killed

    with pytest.raises(Killed):
        run_trial(config, data, report, Snapshots(path, every=0))


def die_at(epoch: int) -> MembersReport:
    """Return a report to members after which their process dies."""

    def report(made: Mapping[int, EpochMetrics]) -> tuple[()]:
        if any(metrics.trained >= epoch for metrics in made.values()):
            raise Killed
        return ()

    return report


def assert_alike(one: TrialOutcome, other: TrialOutcome) -> None:
    assert one.validation == other.validation
    assert one.epochs == other.epochs
    theirs = other.tokenizer.model.state_dict()
    for name, tensor in one.tokenizer.model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


VARIANTS = {
    **{kind: {"quantizer.kind": kind} for kind in QUANTIZERS},
    "shared decoder": {"model.decoder": "shared", "model.levels": "parallel", "model.initialization": "random"},
    "joint decoder": {"model.decoder": "joint"},
    "every term": {"loss.orthogonality": 0.1, "loss.topographic": 0.1, "loss.reconstruction_balance": "worst"},
    "patience": {"training.patience": 2},
    "pilots": {"compression.strategy": "feedback"},
}


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_resumed_is_undisturbed_bit_for_bit(config, data, path, overrides) -> None:
    config = config.with_overrides(overrides)
    undisturbed: list[EpochMetrics] = []
    expected = run_trial(config, data, undisturbed.append)
    interrupt(config, data, path, epoch=4)
    interrupt(config, data, path, epoch=EPOCHS)
    reports: list[EpochMetrics] = []
    snapshots = Snapshots(path, every=0)
    outcome = run_trial(config, data, reports.append, snapshots)
    assert snapshots.epoch == EPOCHS - 1, "in the midst of refining decoders"
    assert not snapshots.notice
    assert_alike(outcome, expected)
    assert [replace(each, seconds=0) for each in reports] == [replace(each, seconds=0) for each in undisturbed]


def test_members_resume_together_the_diverged_one_included(config, data, path) -> None:
    configs = [config, config.with_overrides({"training.learning_rate": 1e12, "seed": 1})]
    expected = run_members(configs, data)

    with pytest.raises(Killed):
        run_members(configs, data, die_at(6), Snapshots(path, every=0))
    sound, diverged = run_members(configs, data, snapshots=Snapshots(path, every=0))
    assert_alike(sound, expected[0])
    assert isinstance(diverged, DivergedError)
    assert str(diverged) == str(expected[1])


def test_some_members_go_on_without_the_others(config, data, path) -> None:
    overrides = ({}, {"seed": 1, "compression.strategy": "dimensionality"}, {"training.learning_rate": 1e12, "seed": 2})
    configs = [config.with_overrides(each) for each in overrides]
    with pytest.raises(Killed):
        run_members(configs, data, die_at(6), Snapshots(path, every=0))
    reports: list[int] = []

    def report(made: Mapping[int, EpochMetrics]) -> tuple[()]:
        reports.extend(metrics.epoch for metrics in made.values())
        return ()

    snapshots = Snapshots(path, every=0)
    [outcome] = run_members(configs[1:2], data, report, snapshots)
    assert snapshots.epoch == 5
    assert reports == [2, 4, 6, 8]
    alone = run_trial(configs[1], data)
    assert isinstance(outcome, TrialOutcome)
    assert outcome.validation.fvu == pytest.approx(alone.validation.fvu, rel=1e-3, abs=1e-4)


def test_a_member_that_was_stopped_stays_so_and_repeats_its_reports(config, data, path) -> None:
    configs = [config, config.with_overrides({"seed": 1})]
    reports: list[tuple[int, int]] = []

    def stop_second(made: Mapping[int, EpochMetrics]) -> list[int]:
        reports.extend((member, metrics.epoch) for member, metrics in made.items())
        if made[0].epoch == 6:
            raise Killed
        return [1]

    with pytest.raises(Killed):
        run_members(configs, data, stop_second, Snapshots(path, every=0))
    before, reports[:] = reports[:-1], []
    outcome, stopped = run_members(
        configs, data, lambda made: reports.extend((m, e.epoch) for m, e in made.items()) or (), Snapshots(path, 0)
    )
    assert stopped is None
    assert isinstance(outcome, TrialOutcome)
    assert before == [(0, 2), (1, 2), (0, 4)]
    assert reports == [*before, (0, 6), (0, 8)]


def test_a_member_that_had_ended_needs_no_more_training(config, data, path) -> None:
    # The first starts at its best and stops early, the second has to recover from too high a rate.
    longer = [
        config.with_overrides({"training.epochs": 12, "training.patience": 1, "training.learning_rate": rate})
        for rate in (config.training.learning_rate, 0.05)
    ]
    trained: list[int] = []

    def die(made: Mapping[int, EpochMetrics]) -> tuple[()]:
        trained.extend(metrics.trained for member, metrics in made.items() if member == 0)
        if made[1].trained == 8 if 1 in made else False:
            raise Killed
        return ()

    with pytest.raises(Killed):
        run_members(longer, data, die, Snapshots(path, every=0))
    repeated: list[int] = []
    [outcome] = run_members(longer[:1], data, lambda made: repeated.append(made[0].trained) or (), Snapshots(path, 0))
    assert repeated == trained and trained[-1] < 8
    assert isinstance(outcome, TrialOutcome)
    assert outcome.validation.fvu == pytest.approx(run_trial(longer[0], data).validation.fvu, rel=1e-3, abs=1e-4)


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [corrupt, truncate, empty, Path.unlink])
def test_a_damaged_snapshot_falls_back_to_the_one_before(config, data, path, damage) -> None:
    expected = run_trial(config, data)
    interrupt(config, data, path, epoch=6)
    damage(path)
    snapshots = Snapshots(path, every=0)
    assert_alike(run_trial(config, data, snapshots=snapshots), expected)
    assert snapshots.epoch == 4
    assert ("resumed from the one before, epoch 4" in snapshots.notice) == (damage is not Path.unlink)


def test_without_a_whole_snapshot_training_begins_anew_and_says_so(config, data, path) -> None:
    expected = run_trial(config, data)
    interrupt(config, data, path, epoch=6)
    truncate(path)
    shutil.copyfile(path, path.with_name(path.name + ".before"))
    snapshots = Snapshots(path, every=0)
    assert_alike(run_trial(config, data, snapshots=snapshots), expected)
    assert snapshots.epoch == 0
    assert snapshots.notice.endswith("trained from the start")


@pytest.mark.parametrize("overrides", [{"seed": 1}, {"training.learning_rate": 2e-3}, {"training.epochs": EPOCHS + 2}])
def test_the_snapshot_of_another_training_is_not_taken(config, data, path, overrides) -> None:
    interrupt(config, data, path, epoch=6)
    other = config.with_overrides(overrides)
    snapshots = Snapshots(path, every=0)
    assert_alike(run_trial(other, data, snapshots=snapshots), run_trial(other, data))
    assert "of another training" in snapshots.notice


def test_short_trainings_write_nothing_and_a_finished_one_is_discarded(config, data, path) -> None:
    run_trial(config, data, snapshots=Snapshots(path, every=3600))
    assert not list(path.parent.iterdir())
    run_trial(config, data, snapshots=Snapshots(path, every=0))
    assert {each.name for each in path.parent.iterdir()} == {path.name, path.name + ".before"}
    discard(path)
    assert not list(path.parent.iterdir())
