"""Trials in lock step, on a real Ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from results.records.trial_record import TrialRecord
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DivergedError
from study import run
from study.config import ClusterConfig, GuardsConfig, StoppingConfig, StudyConfig
from study.pipeline import StudyResult
from tests.toy import ONE_PARAMETER, make_toy, small_study, write_dataset

NEVER_FEASIBLE = GuardsConfig(fvu_worst_limit=0.001)
"""There are no finals then."""

pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    cluster = ClusterConfig(gpus=0, max_concurrent=2, members_per_trial=4, snapshot_seconds=0)
    stopping = StoppingConfig(grace=2, reduction=2)
    given = {"trials": 12, "sampler": "random", "cluster": cluster, "stopping": stopping}
    return small_study(tmp_path, write_dataset(tmp_path / "table.parquet"), ONE_PARAMETER, **given)


ONE_RATE = """
description: A space for tests in which no two trials train the same
parameters:
  training.learning_rate: {type: float, low: 1.0e-3, high: 2.0e-3}
fixed:
  compression.strategy: balanced
"""


def own_trials(result: StudyResult) -> list[TrialRecord]:
    """Return the trials that the study ran itself."""
    return [record for record in result.search if record.attempts]


def test_each_trial_of_a_batch_has_its_own_curve_end_and_checkpoint(config):
    result = run(config, objective=make_toy())
    records = own_trials(result)
    assert {record.state for record in records} == {"complete", "pruned"}
    trial_batches = {record.attempts[0].trial_batch for record in records}
    assert len(trial_batches) < len(records) / 2
    for record in records:
        assert [row["epoch"] for row in record.curve] == list(range(1, record.epochs + 1))
        assert record.epochs == (6 if record.state == "complete" else record.curve[-1]["epoch"])
    assert {record.epochs for record in records if record.state == "pruned"} <= {2, 4}  # at the rungs, no later
    best = min((record for record in records if record.feasible), key=lambda record: record.metrics.imbalance)
    assert result.best.number == best.number


def test_trials_in_lock_step_score_what_they_do_alone(config, tmp_path):
    """With the real core: the same trials, drawn at random, in trial batches and one by one."""
    (tmp_path / "space.yaml").write_text(ONE_RATE)
    config, scores = config.model_copy(update={"guards": NEVER_FEASIBLE}), {}
    for members in (4, 1):
        cluster = config.cluster.model_copy(update={"members_per_trial": members})
        chosen = config.model_copy(update={"name": f"by-{members}", "cluster": cluster, "trials": 9})
        records = own_trials(run(chosen))
        scores[members] = {record.number: record for record in records}
    trial_batches = [record.attempts[0].trial_batch for record in scores[4].values()]
    assert trial_batches.count("batch-0000") == trial_batches.count("batch-0004") == 4
    for number, record in scores[4].items():
        alone = scores[1][number]
        assert record.params == alone.params
        for row, other in zip(record.curve, alone.curve, strict=False):
            assert row["fvu_worst"] == pytest.approx(other["fvu_worst"], rel=1e-3)


def test_a_member_that_fails_or_takes_the_process_with_it_harms_no_other(config, tmp_path):
    once = tmp_path / "once"

    def fault(config: TrialConfig, epoch: int, snapshots) -> None:
        if epoch == 3 and config.compression.strategy != "uniform" and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if epoch == 5 and config.compression.sharpness < 0.8:
            raise DivergedError(5, "the loss")
        if epoch == 4 and config.compression.sharpness > 1.8:
            raise ZeroDivisionError("a bug")

    config = config.model_copy(update={"stopping": StoppingConfig(rule="none"), "guards": NEVER_FEASIBLE})
    records = own_trials(run(config, objective=make_toy(fault)))
    assert len(records) == 12
    for record in records:
        sharpness = record.params["compression.sharpness"]
        assert record.state == ("diverged" if sharpness < 0.8 else "failed" if sharpness > 1.8 else "complete")
        assert record.kind in {"diverged": ("non-finite",), "failed": ("exception",)}.get(record.state, ("",))
    lost = [attempt for record in records for attempt in record.attempts if attempt.kind == "worker lost"]
    assert len({attempt.trial_batch for attempt in lost}) == 1
    assert len(lost) == 4
