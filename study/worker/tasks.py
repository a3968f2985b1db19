"""Trainings outside of the search, as Ray tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import ray

from results.records.trial_record import TrialRecord
from spinlock_dist.errors import SpinlockError
from spinlock_dist.training.snapshot import discard
from study.worker.retry_policy import StudyError
from study.worker.trainable import Training, WorkerSetup, evaluate

RETRIES = 2
"""How often a training whose process died is started again."""


@dataclass(frozen=True)
class Workers:
    """Runs trainings on the cluster, as many at a time as trials of the search."""

    setup: WorkerSetup

    def run(self, trainings: Iterable[Training]) -> Iterator[TrialRecord]:
        """Yield the record of each training as it ends. The next is taken from `trainings` only when a worker is free.

        Raises the `SpinlockError` that a training raised, and `StudyError` if its process died time after time.
        """
        waiting = iter(trainings)
        running: dict[Any, Training] = {}
        try:
            while True:
                while len(running) < self.setup.resources.concurrent and (training := next(waiting, None)) is not None:
                    running[self._start(training)] = training
                if not running:
                    return
                [done], _ = ray.wait(list(running), num_returns=1)
                training = running.pop(done)
                yield self._record(done, training)
                discard(self.setup.snapshots / training.name)  # only now: the record has been kept
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _start(self, training: Training) -> Any:
        resources = self.setup.resources
        task = ray.remote(cast(Any, evaluate)).options(
            name=training.name,
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            memory=resources.memory or None,
            max_retries=RETRIES,
        )
        return task.remote(replace(training, data=None), training.data, self.setup)

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
