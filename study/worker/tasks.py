"""Trainings outside of the search, as Ray tasks: few at a time, each handed on as soon as it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray

from results.records.trial_record import Phase, TrialRecord
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import SpinlockError
from spinlock_dist.training.snapshot import discard
from study.cluster.resources import Resources
from study.worker.retry_policy import StudyError
from study.worker.trainable import Objective, evaluate

RETRIES = 2
"""How often a training whose process died is started again."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training to be run; `data` is prepared data in Ray's object store."""

    phase: Phase
    arm: str
    number: int
    config: TrialConfig
    data: Any
    checkpoint: Path | None = None
    """Where to keep the model, if at all."""

    @property
    def name(self) -> str:
        """Name of its snapshot, and of its task on Ray's pages."""
        return f"{self.phase}-{self.arm.replace('/', '-')}-{self.number}"


@dataclass(frozen=True)
class Workers:
    """Runs trainings on the cluster, as many at a time as trials of the search."""

    resources: Resources
    objective: Objective
    snapshots: Path
    """Folder of what interrupted trainings go on from."""
    snapshot_seconds: float

    def run(self, trainings: Iterable[Training]) -> Iterator[TrialRecord]:
        """Yield the record of each training as it ends. The next is taken from `trainings` only when there is room.

        Raises what a training raised if it is a `SpinlockError`, `StudyError` if its process died time after time.
        """
        waiting = iter(trainings)
        running: dict[Any, Training] = {}
        try:
            while True:
                while len(running) < self.resources.concurrent and (training := next(waiting, None)) is not None:
                    running[self._start(training)] = training
                if not running:
                    return
                [done], _ = ray.wait(list(running), num_returns=1)
                training = running.pop(done)
                yield self._record(done, training)
                discard(self.snapshots / training.name)  # only now: the record has been kept
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _start(self, training: Training) -> Any:
        task = ray.remote(cast(Any, evaluate)).options(
            name=training.name,
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
            memory=self.resources.memory or None,
            max_retries=RETRIES,
        )
        return task.remote(
            training.config,
            training.data,
            objective=self.objective,
            resources=self.resources,
            phase=training.phase,
            arm=training.arm,
            number=training.number,
            snapshot=self.snapshots / training.name,
            snapshot_seconds=self.snapshot_seconds,
            checkpoint=training.checkpoint,
        )

    def _record(self, done: Any, training: Training) -> TrialRecord:
        try:
            return ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SpinlockError):
                raise error.cause from None
            raise
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
            raise StudyError(
                f"the processes of the {training.phase} phase died {RETRIES + 1} times; is memory short?"
            ) from None
