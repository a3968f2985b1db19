"""Trainings outside of the search, as Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast

import ray

from results.records.trial_record import TrialRecord
from spinlock_dist.errors import SpinlockError
from spinlock_dist.training.snapshot import discard
from study.cluster.held_devices import held
from study.worker.device import Device, DeviceFault
from study.worker.device_health import DeviceHealth
from study.worker.retry_policy import StudyError, failed_everywhere, failure_kind
from study.worker.trainable import Training, WorkerSetup, evaluate, in_a_line

RETRIES = 2
"""How often a training whose process died is started again."""

WAYS_OUT = {
    "out of memory": "have fewer trials at a time (--max-concurrent, --memory-per-trial, on GPUs a larger "
    "--gpus-per-trial), and go on with --resume",
    "memory taken": "go on with --resume when they have ended",
}
"""What helps a training that memory was short for, by the kind of its failure."""


@dataclass(frozen=True)
class Workers:
    """Runs trainings on the cluster, as many at a time as trials of the search.

    A training whose device failed is started again. When a device is set aside those that run end first: then it can be
    told from the others and taken.
    """

    setup: WorkerSetup
    slots: Callable[[], int]
    """How many trainings have room now."""
    health: DeviceHealth
    say: Callable[[str], None]

    def run(self, trainings: Iterable[Training]) -> Iterator[TrialRecord]:
        """Yield the record of each training as it ends. The next is taken from `trainings` only when a worker is free.

        Raises the `SpinlockError` that a training raised, and `StudyError` if its process died time after time.
        """
        waiting: Iterator[Training] | None = iter(trainings)
        faults: dict[str, list[Device]] = {}
        while waiting is not None:
            with held(self.health.set_aside):
                waiting = yield from self._run_on_what_is_left(waiting, faults)

    def _run_on_what_is_left(
        self, waiting: Iterator[Training], faults: dict[str, list[Device]]
    ) -> Generator[TrialRecord, None, Iterator[Training] | None]:
        """Run trainings until all are done, or those that ran when a device was set aside; return the rest."""
        running: dict[Any, Training] = {}
        aside = len(self.health.set_aside)
        try:
            while True:
                while (
                    len(running) < self.slots()
                    and len(self.health.set_aside) == aside
                    and (training := next(waiting, None)) is not None
                ):
                    running[self._start(training)] = training
                if not running:
                    return waiting if len(self.health.set_aside) > aside else None
                [done], _ = ray.wait(list(running), num_returns=1)
                training = running.pop(done)
                try:
                    record = self._record(done, training)
                except DeviceFault as fault:
                    faults.setdefault(training.name, []).append(fault.device)
                    self._on_device_fault(training, fault, faults[training.name])
                    waiting = chain([training], waiting)
                    continue
                yield record
                discard(self.setup.snapshots / training.name)  # only now: the record has been kept
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _on_device_fault(self, training: Training, fault: DeviceFault, devices: Sequence[Device]) -> None:
        """Note a fault under a training, the last of those on `devices`.

        Raises `StudyError` if it came back on device after device, or if none is left.
        """
        known = fault.device.key in self.health.set_aside
        aside = self.health.fault(fault.device, training.name, fault.reason)
        if reason := self.health.reason_to_end:
            raise StudyError(f"{reason} ({fault.reason}); mend them, then resume with --resume")
        if failed_everywhere([(device.node_id, device.name) for device in devices]):
            raise StudyError(f"{training.name} failed {len(devices)} times, at last: {fault}")
        if aside and not known:
            self.say(f"{fault.device} is set aside, one training after another failed on it: {fault.reason}")
        elif not aside:
            self.say(f"{fault.device} failed under {training.name}; it is tried again in a new process")

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
            if way_out := WAYS_OUT.get(failure_kind(error.cause)):
                raise StudyError(f"{training.name} failed: {in_a_line(error.cause)}; {way_out}") from None
            if isinstance(error.cause, SpinlockError):
                raise error.cause from None
            raise
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
            raise StudyError(
                f"the processes of the {training.phase} phase died {RETRIES + 1} times; is memory short?"
            ) from None
