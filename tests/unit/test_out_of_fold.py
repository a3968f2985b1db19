"""A trial that is trained once a fold: scored on all rows, each by the model that has not seen it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError
from spinlock_dist.metrics.reconstruction import fvu_by_category
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.out_of_fold import Outcome, run_folds
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome, run_trial
from spinlock_dist.training.snapshot import Snapshots, discard
from study.worker.trainable import curve_row
from tests.synthetic import write_table

CONFIG = TrialConfig(training={"epochs": 4, "evaluate_every": 2, "batch_size": 64}, model={"hidden": 8})
OTHER = CONFIG.with_overrides({"training.learning_rate": 2e-3})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    dataset = write_table(tmp_path_factory.mktemp("data") / "t.npz")
    config = TrialConfig.model_validate({"prepare": {"dataset": str(dataset), "categories": {"count": 3}}})
    return prepare(config.prepare)


def completed(outcome: Outcome) -> TrialOutcome:
    assert isinstance(outcome, TrialOutcome)
    return outcome


def test_each_row_is_scored_once_by_the_model_of_its_fold(data: PreparedData) -> None:
    outcome = completed(run_folds([CONFIG], data)[0])
    targets, outputs = [], []
    for fold in range(3):
        alone = run_trial(CONFIG, data.fold(fold))
        scored = alone.reconstructed("validation")
        np.testing.assert_array_equal(scored.target_ND, data.values[data.split.folds[fold]])
        targets.append(scored.target_ND - scored.train_mean_D)
        outputs.append(scored.output_ND - scored.train_mean_D)
        if fold == 0:
            ours, theirs = (each.reconstructed("test").output_ND for each in (outcome, alone))
            np.testing.assert_array_equal(ours, theirs)
    target_ND, output_ND = np.concatenate(targets), np.concatenate(outputs)
    assert len(target_ND) == len(data.values) - len(data.split.test)
    expected = fvu_by_category(target_ND, output_ND, np.zeros(target_ND.shape[1]), data.categories)
    assert outcome.validation.fvu == pytest.approx(expected, rel=1e-9)
    assert outcome.first_fold == run_trial(CONFIG, data.fold(0)).validation


def test_reports_are_of_the_first_fold_and_a_last_one_of_all(data: PreparedData) -> None:
    made: list[EpochMetrics] = []

    def report(found: Mapping[int, EpochMetrics]) -> tuple[()]:
        made.extend(found.values())
        return ()

    outcome = completed(run_folds([CONFIG], data, report)[0])
    assert [(each.epoch, each.finished) for each in made] == [(2, False), (4, False), (12, True)]
    assert made[1].validation == run_trial(CONFIG, data.fold(0)).validation
    assert made[-1].validation == outcome.validation


def test_one_fold_is_a_training(data: PreparedData) -> None:
    alone = data.fold(1)
    assert completed(run_folds([CONFIG], alone)[0]).validation == run_trial(CONFIG, alone).validation


def test_what_stops_or_is_refused_leaves_the_others(data: PreparedData) -> None:
    refused = CONFIG.with_overrides({"compression.min_rows_per_code": 10_000})
    seen: list[int] = []

    def report(found: Mapping[int, EpochMetrics]) -> set[int]:
        seen.extend(found)
        return {1}

    outcomes = run_folds([CONFIG, OTHER, refused], data, report)
    assert outcomes[1] is None
    assert isinstance(outcomes[2], ConfigError)
    alone = completed(run_folds([CONFIG], data)[0])
    assert completed(outcomes[0]).validation.fvu == pytest.approx(alone.validation.fvu, rel=1e-3)
    assert seen.count(1) == 1


def test_one_that_diverges_ends_with_that(data: PreparedData) -> None:
    [outcome] = run_folds([CONFIG.with_overrides({"training.learning_rate": 1e30})], data)
    assert isinstance(outcome, DivergedError)


def test_one_that_is_stopped_in_a_later_fold_ends_there(data: PreparedData) -> None:
    asked = 0

    def report(found: Mapping[int, EpochMetrics]) -> set[int]:
        nonlocal asked
        asked += not found  # later folds report nothing but ask whether to go on
        return set() if found else {0}

    assert run_folds([CONFIG], data, report) == [None]
    assert asked == 2  # at the end of the second fold, and at the end of all


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_trial_that_is_interrupted_in_any_fold_ends_as_one_undisturbed(
    data: PreparedData, tmp_path: Path, after: int
) -> None:
    expected = run_folds([CONFIG, OTHER], data)
    seen = 0

    def report(_: Mapping[int, EpochMetrics]) -> tuple[()]:
        nonlocal seen
        seen += 1
        if seen == after:
            raise Killed
        return ()

    path = tmp_path / "trial"
    with pytest.raises(Killed):
        run_folds([CONFIG, OTHER], data, report, Snapshots(path, 0))
    resumed = run_folds([CONFIG, OTHER], data, snapshots=Snapshots(path, 0))
    for ours, theirs in zip(resumed, expected, strict=True):
        assert completed(ours).validation == completed(theirs).validation
    discard(path)
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_all_folds_is_no_part_of_the_learning_curve(data: PreparedData, make_record) -> None:
    rows: list[dict[str, float]] = []

    def report(found: Mapping[int, EpochMetrics]) -> tuple[()]:
        rows.extend(curve_row(metrics) for metrics in found.values())
        return ()

    run_folds([CONFIG], data, report)
    record = make_record(0, curve=rows)
    assert [row["epoch"] for row in record.curve] == [2, 4, 12]
    assert [row["epoch"] for row in record.learning_curve] == [2, 4]
    assert rows[-1]["folds"] == 3
