"""A trial on a worker: the only file that reports to Ray Tune, and the task that the other phases run.

What a worker says in a report: `epoch`, `trained` and `fvu_worst` (early stopping reads these two), `seconds`,
`status`, `start` (the epoch it went on from), `notice` (what was wrong with the snapshot), and as JSON text `curve`
(one flat row) and `metrics` (complete). The status is `running` until the last report, which says `complete`, with the
`checkpoint`'s digest, or `failed`, with `kind` and `reason`; a trial whose last word is `running` was stopped by the
scheduler.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune

from results.files import digest
from results.trial_record import Phase, State, TrialRecord
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DivergedError, SpinlockError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.prepare import PreparedData
from spinlock_dist.run import Report, TrialOutcome
from spinlock_dist.training.snapshot import Snapshots
from study.faults import kind_of
from study.resources import Resources
from study.slots import trial_name

Objective = Callable[[TrialConfig, PreparedData, Report, Snapshots], TrialOutcome]
"""The core as the study sees it: `spinlock_dist.run.run_trial`, or a stand-in that can be pickled."""


def use_resources(resources: Resources) -> None:
    """Hold this process to what its trial was given. A trial without GPUs must not see one: Ray leaves them visible."""
    torch.set_num_threads(resources.cpus)
    if resources.gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def room(given: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Return what Tune is to reserve for a trial."""
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
    """Run one trial of the search as a Tune function trainable, from its last snapshot if there is one.

    A fault is reported, not raised: whether it is worth another attempt depends on its kind.
    """
    use_resources(resources)
    began = time.monotonic()
    last: list[EpochMetrics] = []
    name = trial_name(given["number"])
    kept = Snapshots(Path(snapshots) / name, snapshot_seconds)

    def report(metrics: EpochMetrics) -> None:
        last[:] = [metrics]
        if not metrics.finished:  # the last report waits for the checkpoint: a trial may be stopped at any report
            tune.report(_message(metrics, metrics.validation, "running", kept))

    try:
        config = TrialConfig.model_validate_json(given["config"])
        outcome = objective(config, data, report, kept)
        checkpoint = Path(checkpoints) / name
        outcome.save(checkpoint)
        message = _message(last[0], outcome.validation, "complete", kept)
        tune.report({**message, "checkpoint": digest(checkpoint)})
    except Exception as error:
        seconds = time.monotonic() - began
        tune.report({"status": "failed", "kind": kind_of(error), "reason": _in_a_line(error), "seconds": seconds})


def _in_a_line(error: Exception) -> str:
    """Return an error without its traceback; those of the core say all by themselves."""
    said = " ".join(str(error).split())
    return said if isinstance(error, SpinlockError) else f"{type(error).__name__}: {said}"


def _message(report: EpochMetrics, metrics: Metrics, status: str, snapshots: Snapshots) -> dict[str, Any]:
    """Return what is said: `metrics` are of the weights kept, which with patience are not those of the last epoch."""
    return {
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
    try:
        outcome = objective(config, data, lambda metrics: curve.append(curve_row(metrics)), kept)
    except DivergedError as error:
        return _record(phase, arm, number, config, curve, began, state="diverged", reason=str(error))
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
