"""A trial batch of trials on a worker: the only file that reports to Ray Tune, and the task that the other phases run.

What a worker tells Tune: `reports`, one of each trial that has something to say, and `stopped`, the numbers of those
that it stopped because it was told to. In a report: `number`, `epoch`, `trained` and `fvu_worst` (early stopping reads
these two), `seconds`, `status`, `start` (the epoch it went on from), `notice` (what was wrong with the snapshot), and
as JSON text `curve` (one flat row) and `metrics` (complete). The status is `running` until the last report, which says
`complete`, with the `checkpoint`'s digest, or `failed`, with `kind`, `reason` and whether the fault is the trial's
`own` or may be another's of the trial batch; a trial whose last word is `running` was stopped by the scheduler.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune

from results.records.trial_record import Phase, State, TrialRecord
from spinlock_dist.atomic_files import digest
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DivergedError, SpinlockError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.prepare import PreparedData
from spinlock_dist.run import MembersReport, TrialOutcome
from spinlock_dist.training.snapshot import Snapshots
from study.cluster.resources import Resources
from study.worker.actor import trial_name
from study.worker.retry_policy import failure_kind

Objective = Callable[
    [Sequence[TrialConfig], PreparedData, MembersReport, Snapshots], Sequence[TrialOutcome | SpinlockError | None]
]
"""The core as the study sees it: `spinlock_dist.run.run_members`, or a stand-in that can be pickled."""


def use_resources(resources: Resources) -> None:
    """Hold this process to what its trial was given. A trial without GPUs must not see one: Ray leaves them visible."""
    torch.set_num_threads(resources.cpus)
    if resources.gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def room(given: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Return what Tune is to reserve for a trial batch."""
    return tune.PlacementGroupFactory([given["room"]])


def train(
    given: dict[str, Any],
    *,
    objective: Objective,
    data: PreparedData,
    resources: Resources,
    checkpoints: str,
    snapshots: str,
    snapshot_seconds: float,
) -> None:
    """Run a trial batch of trials of the search as a Tune function trainable, from its last snapshot if there is one.

    A fault is reported, not raised: whether it is worth another attempt depends on its kind.
    """
    use_resources(resources)
    began = time.monotonic()
    numbers = [member["number"] for member in given["members"]]
    last: dict[int, EpochMetrics] = {}
    kept = Snapshots(Path(snapshots) / given["trial_batch"], snapshot_seconds)

    def report(made: Mapping[int, EpochMetrics]) -> set[int]:
        last.update(made)
        # A last report waits for the checkpoint: a trial may be stopped at any report.
        going = {member: metrics for member, metrics in made.items() if not metrics.finished}
        if going:
            said = [_message(numbers[m], metrics, metrics.validation, "running", kept) for m, metrics in going.items()]
            tune.report({"reports": said, "stopped": list(given["stopped"])})
        return {numbers.index(number) for number in given["stopped"]}

    def failed(member: int, error: Exception, own: bool) -> dict[str, Any]:
        fault = {"status": "failed", "kind": failure_kind(error), "reason": _in_a_line(error), "own": own}
        return {"number": numbers[member], "seconds": time.monotonic() - began, **fault}

    def ended(member: int, outcome: TrialOutcome | SpinlockError) -> dict[str, Any]:
        if isinstance(outcome, SpinlockError):
            return failed(member, outcome, own=True)
        checkpoint = Path(checkpoints) / trial_name(numbers[member])
        outcome.save(checkpoint)
        message = _message(numbers[member], last[member], outcome.validation, "complete", kept)
        return {**message, "checkpoint": digest(checkpoint)}

    try:
        configs = [TrialConfig.model_validate_json(member["config"]) for member in given["members"]]
        outcomes = objective(configs, data, report, kept)
        said = [ended(member, outcome) for member, outcome in enumerate(outcomes) if outcome is not None]
    except Exception as error:
        going_on = [member for member, number in enumerate(numbers) if number not in given["stopped"]]
        said = [failed(member, error, own=False) for member in going_on]
    tune.report({"reports": said, "stopped": list(given["stopped"])})


def _in_a_line(error: Exception) -> str:
    """Return an error without its traceback; those of the core say all by themselves."""
    said = " ".join(str(error).split())
    return said if isinstance(error, SpinlockError) else f"{type(error).__name__}: {said}"


def _message(number: int, report: EpochMetrics, metrics: Metrics, status: str, snapshots: Snapshots) -> dict[str, Any]:
    """Return a report: `metrics` are of the weights kept, which with patience are not those of the last epoch."""
    return {
        "number": number,
        "epoch": report.epoch,
        "trained": report.trained,
        "fvu_worst": report.validation.fvu_worst,
        "seconds": report.seconds,
        "status": status,
        "start": snapshots.epoch,
        "notice": snapshots.notice,
        "curve": json.dumps(curve_row(report)),
        "metrics": json.dumps(asdict(metrics)),
    }


def curve_row(metrics: EpochMetrics) -> dict[str, float]:
    """Return a report as one flat row."""
    reached = {"epoch": metrics.epoch, "trained": metrics.trained, "seconds": metrics.seconds}
    losses = {f"loss.{name}": value for name, value in metrics.losses.items()}
    return {**reached, **losses, **metrics.validation.scalars()}


def evaluate(
    config: TrialConfig,
    data: PreparedData,
    *,
    objective: Objective,
    resources: Resources,
    phase: Phase,
    arm: str,
    number: int,
    snapshot: Path,
    snapshot_seconds: float,
    checkpoint: Path | None,
) -> TrialRecord:
    """Train `config` to the end, from its last snapshot if there is one, and return its record.

    Finals and verification score the test rows as well. The model is kept as `checkpoint` if that is asked for.
    """
    use_resources(resources)
    began = time.monotonic()
    curve: list[dict[str, float]] = []
    kept = Snapshots(snapshot, snapshot_seconds)

    def report(made: Mapping[int, EpochMetrics]) -> set[int]:
        curve.extend(curve_row(metrics) for metrics in made.values())
        return set()

    [outcome] = objective([config], data, report, kept)
    if isinstance(outcome, DivergedError):
        return _record(phase, arm, number, config, curve, began, state="diverged", reason=str(outcome))
    if isinstance(outcome, SpinlockError):
        raise outcome
    assert outcome is not None  # nothing stopped it
    if checkpoint is not None:
        outcome.save(checkpoint)
    test = outcome.evaluate("test") if phase in ("final", "verification") else None
    return _record(phase, arm, number, config, curve, began, state="complete", metrics=outcome.validation, test=test)


def _record(
    phase: Phase,
    arm: str,
    number: int,
    config: TrialConfig,
    curve: list[dict[str, float]],
    began: float,
    *,
    state: State,
    **outcome: Any,
) -> TrialRecord:
    return TrialRecord(
        phase=phase,
        arm=arm,
        number=number,
        state=state,
        seed=config.seed,
        curve=curve,
        epochs=int(curve[-1]["epoch"]) if curve else 0,
        seconds=time.monotonic() - began,
        node=socket.gethostname(),
        **outcome,
    )
