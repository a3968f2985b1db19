"""Which checkpoints of a search stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from results.analysis.pareto import front
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, feasible_records
from study.search.checkpoint_retention import CheckpointRetention


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path)


@pytest.fixture
def ends(make_record):
    """Return a function that ends a trial and leaves a checkpoint of it."""

    def end(folder: StudyFolder, number: int, worst: float, guard: float = -1.0) -> TrialRecord:
        folder.checkpoint(number).mkdir(parents=True)
        (folder.checkpoint(number) / "model.safetensors").write_text(str(number))
        return make_record(number, worst, 0.1, guards={"fvu_worst": guard})

    return end


def left(folder: StudyFolder) -> list[int]:
    return sorted(int(path.name.removeprefix("trial-")) for path in folder.checkpoint(0).parent.glob("trial-*"))


@pytest.mark.parametrize("split", [0, 1, 5, 12])
def test_the_best_stay_whatever_the_order_and_interruption(folder, ends, split):
    worst = np.random.default_rng(split).uniform(0.2, 0.9, 12)
    records = [ends(folder, number, value, guard=(-1.0, 1.0)[number % 4 == 3]) for number, value in enumerate(worst)]
    kept = CheckpointRetention(folder, 3)
    for record in records[:split]:
        kept.add([record])
        kept.add([record])  # told twice, as an outcome that waited for its batch is
    kept = CheckpointRetention(folder, 3)  # another driver
    kept.add(records[:split])
    for record in records[split:]:
        kept.add([record])
    assert left(folder) == sorted(record.number for record in feasible_records(records)[:3])


def test_a_whole_front_stays(folder, ends):
    records = [ends(folder, number, 0.4 + 0.05 * number) for number in range(6)]
    records = [
        replace(record, metrics=replace(record.metrics, fvu_mean=0.3 - 0.02 * record.number)) for record in records
    ]
    kept = CheckpointRetention(folder, 1, whole_front=True)
    for record in records:
        kept.add([record])
    assert len(front(records)) == 6
    assert left(folder) == list(range(6))


def test_a_trial_without_an_outcome_keeps_its_checkpoint(folder, ends):
    running = ends(folder, 9, 0.8)
    kept = CheckpointRetention(folder, 1)
    kept.add([ends(folder, 0, 0.5), ends(folder, 1, 0.4)])
    assert left(folder) == [1, running.number]
