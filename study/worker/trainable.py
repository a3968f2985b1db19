"""What runs on a worker: a trial batch of the search, which reports to Ray Tune, and a training of the other phases.

A worker reports to Tune: `reports`, one of each trial that has something to say, and `stopped`, the numbers of the
trials that it stopped as it was asked to. A report has `number`, `epoch`, `trained` and `fvu_worst` (early stopping
reads these two), `seconds`, `status`, `start` (the epoch of the snapshot it was resumed from), `notice` (what was wrong
with the snapshot), and as JSON text `curve` (one flat row) and `metrics` (complete). The status is `running` until the
last report, which says `complete`, with the `checkpoint`'s digest, or `failed`, with `kind`, `reason` and whether the
failure is the trial's `own` or may be that of another trial in the batch. A trial whose last status is `running` was
stopped by the scheduler.

Beside them stands the `device`. After a device fault, or an exception on a GPU, CUDA may fail for ever after. So the
process ends itself, and Tune starts another. Where the driver asks for it, it stays and keeps others from the device.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from results.records.identity import training_identity
from results.records.trial_record import Phase, State, TrialRecord
from spinlock_dist.atomic_files import digest
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DivergedError, SpinlockError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.prepare import PreparedData
from spinlock_dist.run import TrialOutcome
from spinlock_dist.training.snapshot import Snapshots
from spinlock_dist.training.trainer import MembersReport
from study.cluster.ray_internals import in_timeline
from study.cluster.resources import Resources
from study.worker.actor import trial_name
from study.worker.device import Device, DeviceFault, device_in_use, explained, share_memory
from study.worker.retry_policy import failure_kind

Objective = Callable[
    [Sequence[TrialConfig], PreparedData, MembersReport, Snapshots], Sequence[TrialOutcome | SpinlockError | None]
]
"""What trains a trial batch: `spinlock_dist.out_of_fold.run_folds`, or a stand-in that can be pickled."""


@dataclass(frozen=True)
class WorkerSetup:
    """What all trainings of a study have in common."""

    objective: Objective
    resources: Resources
    snapshots: Path
    """Folder of what interrupted trainings are resumed from."""
    snapshot_seconds: float
    """A training that runs longer than this is saved this often."""
    usable: frozenset[str] = frozenset()
    """Ids of the nodes where torch could use all GPUs when the study began."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training outside of the search."""

    phase: Phase
    arm: str
    number: int
    config: TrialConfig
    data: Any
    """Reference to prepared data in Ray's object store."""
    checkpoint: Path | None = None
    """Where to keep the model, if at all."""

    @property
    def name(self) -> str:
        """Name of its snapshot, and of its task on Ray's pages."""
        return f"{self.phase}-{self.arm.replace('/', '-')}-{self.number}"


HOLD_SECONDS = 1.0
"""Between two reports of a process that keeps a device."""


def use_resources(resources: Resources, share: float) -> None:
    """Limit this process to the resources of its trial, which has this share of a GPU.

    Ray leaves GPUs visible to a trial that was given none.
    """
    torch.set_num_threads(resources.cpus)
    if resources.gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    share_memory(share)


def claim_gpu(device: Device, configs: Sequence[TrialConfig], setup: WorkerSetup) -> None:
    """Raise CUDA's own words where a GPU is gone that was there, or that a config asks for.

    A training would go on on the processor, or refuse its settings, and the GPU be given the next one.
    """
    expected = device.node_id in setup.usable or any(config.training.device.startswith("cuda") for config in configs)
    if device.is_gpu and expected and torch.backends.cuda.is_built():
        torch.cuda.init()


def reserved_resources(given: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What Tune is to reserve for a trial batch."""
    return tune.PlacementGroupFactory([given["resources"]])


def train(given: dict[str, Any], *, data: PreparedData, setup: WorkerSetup, checkpoints: Path) -> None:
    """Run a trial batch of the search as a Tune function trainable, from its last snapshot if there is one.

    A failure is reported, not raised: the retry policy decides by its kind.
    """
    began = time.monotonic()
    print(f"{given['shown']} starts", flush=True)  # a heading in the worker's log, which has one trial after another
    share = given["resources"].get("GPU", 0.0)
    device = device_in_use(share)
    numbers = [member["number"] for member in given["members"]]
    last: dict[int, EpochMetrics] = {}
    kept = Snapshots(setup.snapshots / given["trial_batch"], setup.snapshot_seconds)

    def send(reports: list[dict[str, Any]]) -> None:
        tune.report({"reports": reports, "stopped": list(given["stopped"]), "device": list(astuple(device))})

    def report(made: Mapping[int, EpochMetrics]) -> set[int]:
        last.update(made)
        # The last epoch is reported with the checkpoint, by `ended`: Tune may stop a trial at any report, and one that
        # is stopped at its last would be complete but have no checkpoint.
        going = {member: metrics for member, metrics in made.items() if not metrics.finished}
        if going:
            send([_message(numbers[m], metrics, metrics.validation, "running", kept) for m, metrics in going.items()])
        return {numbers.index(number) for number in given["stopped"]}

    def failed(member: int, error: Exception, own: bool) -> dict[str, Any]:
        why = {"kind": failure_kind(error), "reason": in_a_line(error), "own": own}
        return {"number": numbers[member], "seconds": time.monotonic() - began, "status": "failed", **why}

    def ended(member: int, outcome: TrialOutcome | SpinlockError) -> dict[str, Any]:
        if isinstance(outcome, SpinlockError):
            return failed(member, outcome, own=True)
        checkpoint = checkpoints / trial_name(numbers[member])
        outcome.save(checkpoint)
        message = _message(numbers[member], last[member], outcome.validation, "complete", kept)
        return {**message, "checkpoint": digest(checkpoint)}

    try:
        use_resources(setup.resources, share)
        configs = [TrialConfig.model_validate_json(member["config"]) for member in given["members"]]
        claim_gpu(device, configs, setup)
        outcomes = setup.objective(configs, data, report, kept)
        reports = [ended(member, outcome) for member, outcome in enumerate(outcomes) if outcome is not None]
    except Exception as error:
        running = [member for member, number in enumerate(numbers) if number not in given["stopped"]]
        reports = [failed(member, explained(error, share), own=False) for member in running]
    send(reports)
    kinds = {report.get("kind") for report in reports}
    if "device fault" in kinds or ("exception" in kinds and share):
        while given["held"]:
            time.sleep(HOLD_SECONDS)
            send([])
        os._exit(1)


def in_a_line(error: Exception) -> str:
    """An error without its traceback; the core's own messages need no type before them."""
    said = str(error)
    if failure_kind(error) == "device fault":
        said = said.partition("\n")[0]  # then comes advice for who debugs CUDA
    text = " ".join(said.split())
    return text if isinstance(error, SpinlockError) else ": ".join(filter(None, [type(error).__name__, text]))


def _message(number: int, report: EpochMetrics, metrics: Metrics, status: str, snapshots: Snapshots) -> dict[str, Any]:
    """A report; `metrics` are those of the weights kept, which with patience are not those of the last epoch."""
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
        "metrics": json.dumps((metrics if status == "complete" else replace(metrics, resampled={})).to_json()),
    }


def curve_row(metrics: EpochMetrics) -> dict[str, float]:
    """A report as one flat row."""
    reached = {"epoch": metrics.epoch, "trained": metrics.trained, "seconds": metrics.seconds}
    reached |= {"folds": metrics.folds} if metrics.folds > 1 else {}
    losses = {f"loss.{name}": value for name, value in metrics.losses.items()}
    return {**reached, **losses, **metrics.validation.scalars()}


def evaluate(training: Training, data: PreparedData, setup: WorkerSetup) -> TrialRecord:
    """Run one training to its end, from its last snapshot if there is one, and return its record.

    Finals and verification score the test rows as well. Raises `DeviceFault` if its device failed, on a GPU also for
    any exception that nobody here knows, until it comes back on others; `MemoryTakenError` if others took its memory.
    """
    device = device_in_use(setup.resources.gpus)
    try:
        use_resources(setup.resources, setup.resources.gpus)
        claim_gpu(device, [training.config], setup)
        with in_timeline(training.name):
            return _evaluate(training, data, setup, device)
    except Exception as caught:
        error = explained(caught, setup.resources.gpus)
        unknown = device.is_gpu and not isinstance(error, SpinlockError)
        if failure_kind(error) == "device fault" or (failure_kind(error) == "exception" and unknown):
            raise DeviceFault(device, in_a_line(error)) from None
        if error is not caught:
            raise error from None
        raise


def _evaluate(training: Training, data: PreparedData, setup: WorkerSetup, device: Device) -> TrialRecord:
    began = time.monotonic()
    curve: list[dict[str, float]] = []
    kept = Snapshots(setup.snapshots / training.name, setup.snapshot_seconds)

    def report(made: Mapping[int, EpochMetrics]) -> set[int]:
        curve.extend(curve_row(metrics) for metrics in made.values())
        return set()

    [outcome] = setup.objective([training.config], data, report, kept)
    known: dict[str, Any] = {"node": device.host, "device": device.name, "model": device.model}
    known |= {"identity": training_identity(training.config, data.fingerprint)}
    if isinstance(outcome, DivergedError):
        return _record(training, curve, began, state="diverged", reason=str(outcome), **known)
    if isinstance(outcome, SpinlockError):
        raise outcome
    assert outcome is not None  # nothing stopped it
    if training.checkpoint is not None:
        outcome.save(training.checkpoint)
    test = outcome.evaluate("test") if training.phase in ("final", "verification") else None
    return _record(training, curve, began, state="complete", metrics=outcome.validation, test=test, **known)


def _record(
    training: Training, curve: list[dict[str, float]], began: float, *, state: State, **outcome: Any
) -> TrialRecord:
    return TrialRecord(
        phase=training.phase,
        arm=training.arm,
        number=training.number,
        state=state,
        seed=training.config.seed,
        curve=curve,
        epochs=int(curve[-1]["epoch"]) if curve else 0,
        seconds=time.monotonic() - began,
        **outcome,
    )
