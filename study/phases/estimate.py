"""What a study will cost, from two epochs of its baseline on a worker."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import ray

from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.prepare import PreparedData
from spinlock_dist.training.snapshot import Snapshots
from study.cluster.resources import Resources
from study.config import StoppingConfig, StudyConfig
from study.context import StudyContext
from study.events import PhaseWork
from study.worker.trainable import WorkerSetup, use_resources

SNAPSHOT_PER_CHECKPOINT = 3
"""A snapshot holds the weights and Adam's two moments of each; two snapshots are kept of a training that runs."""


@dataclass(frozen=True)
class Pilot:
    """What two epochs took."""

    start: float
    """Seconds before the first epoch: capacity, model, codebooks."""
    epoch: float
    """Seconds of an epoch with an evaluation after it."""
    checkpoint: int
    """Bytes."""


@dataclass(frozen=True)
class Phase:
    """One phase, if every training goes to its end."""

    name: str
    trainings: int
    epochs: int
    seconds: float
    """By the clock."""
    device_hours: float
    """Times the GPUs that the trainings hold; without GPUs, the CPUs."""


@dataclass(frozen=True)
class Forecast:
    """The plan of a study. Times are upper estimates where trials are stopped early."""

    name: str
    concurrent: int
    members: int
    """Trials of the search in lock step on a worker."""
    folds: int
    """Trainings of a trial of the baseline, of the search and of the verification."""
    each: str
    """What a trial gets."""
    device: str
    """GPU or CPU: what `device_hours` count."""
    pilot: Pilot
    training_seconds: float
    """Of one training to its end."""
    prepare_seconds: float
    phases: tuple[Phase, ...]
    mean_epochs: float
    """Of a trial of the search on all its folds, if early stopping does what it aims at."""
    first_result_seconds: float
    """From the start to the end of the first trial of the search that goes to its end."""
    disk: int
    """Bytes of checkpoints and snapshots at most."""

    def lines(self) -> Iterator[str]:
        """Yield the plan as it is printed."""
        pilot, hours = self.pilot, f"{self.device}-hours"
        together = f", {self.members} trials of the search in lock step on each" if self.members > 1 else ""
        yield f"{self.concurrent} {'workers' if together else 'trials'} at a time, {self.each} each{together}"
        yield (
            f"a trial: {duration(pilot.start)} to start, {duration(pilot.epoch)} an epoch, "
            f"{duration(self.training_seconds)} in all (two epochs of the baseline, timed)"
        )
        total = Phase("in all", *(sum(getattr(phase, name) for phase in self.phases) for name in FIGURES))
        yield f"{'phase':14s}{'trainings':>10s}{'epochs':>10s}{'at most':>14s}{hours:>12s}"
        for phase in (*self.phases, total):
            counts = f"{phase.trainings:10d}{phase.epochs:10d}"
            yield f"{phase.name:14s}{counts}{duration(phase.seconds):>14s}{phase.device_hours:12.3g}"
        [search] = [phase for phase in self.phases if phase.name == "search"]
        if self.mean_epochs * search.trainings < search.epochs * self.folds:
            saved = duration(search.seconds * (1 - self.mean_epochs * search.trainings / (search.epochs * self.folds)))
            yield f"early stopping: about {self.mean_epochs:.0f} epochs a trial, which saves {saved} of the search"
        yield f"first result: after {duration(self.first_result_seconds)}, Ray's start apart"
        yield f"disk: at most {self.disk / 1e6:.3g} MB of checkpoints and snapshots"
        yield "strategies that measure with pilots of their own (feedback) take longer"

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        return asdict(self)


FIGURES = ("trainings", "epochs", "seconds", "device_hours")


def estimate(context: StudyContext, searches: int) -> Forecast:
    """Time two epochs of the baseline, alone and in as many lock steps as the search trains, and count the rest."""
    counts = {1, context.members}
    pilots = {count: _time_pilot(context, count) for count in counts}
    epochs, resources = context.base.training.epochs, context.cluster.resources
    return forecast(context.config, epochs, resources, pilots, context.prepare_seconds, searches)


def _time_pilot(context: StudyContext, members: int) -> Pilot:
    resources = context.cluster.resources
    task = ray.remote(cast(Any, _two_epochs)).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, memory=resources.memory or None, max_retries=0
    )
    return ray.get(task.remote([context.uniform] * members, context.data, context.setup))


def _two_epochs(configs: Sequence[TrialConfig], data: PreparedData, setup: WorkerSetup) -> Pilot:
    use_resources(setup.resources, setup.resources.gpus)
    data = data.fold(0)
    training = configs[0].training.model_copy(update={"epochs": 2, "evaluate_every": 1})
    short = [config.model_copy(update={"training": training}) for config in configs]
    ends: list[float] = []

    def report(made: Mapping[int, EpochMetrics]) -> set[int]:
        ends.append(time.monotonic())
        return set()

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome, *_ = setup.objective(short, data, report, Snapshots(Path(folder) / "snapshot", math.inf))
        if isinstance(outcome, SpinlockError):
            raise outcome
        assert outcome is not None  # nothing stopped it
        outcome.save(Path(folder) / "checkpoint")
        size = sum(path.stat().st_size for path in (Path(folder) / "checkpoint").rglob("*") if path.is_file())
    epoch = ends[1] - ends[0]
    return Pilot(start=max(0.0, ends[0] - began - epoch), epoch=epoch, checkpoint=size)


def forecast(
    config: StudyConfig,
    epochs: int,
    resources: Resources,
    pilots: Mapping[int, Pilot],
    prepare_seconds: float,
    searches: int = 1,
) -> Forecast:
    """The plan of a study whose trials train `epochs` epochs; a tournament has several searches.

    `pilots`: of one training, and of as many in lock step as the search trains on a worker.
    """
    pilot, members = pilots[1], max(pilots)
    folds = config.base.prepare.split.folds
    training = pilot.start + epochs * pilot.epoch
    together = pilots[members].start + epochs * pilots[members].epoch
    held = resources.gpus or resources.cpus

    def phase(name: str, trainings: int, members: int = 1, seconds: float = training) -> Phase:
        trial_batches = math.ceil(trainings / members)
        clock = math.ceil(trial_batches / resources.expected) * seconds
        return Phase(name, trainings, trainings * epochs, clock, trial_batches * seconds * held / 3600)

    phases = (
        phase("baseline", config.baseline_seeds * folds),
        phase("search", config.trials * searches * folds, members, together),
        phase("finals", _arms(config, searches) * config.finals.replicates),
        phase("verification", config.finals.seeds * folds),
    )
    kept = max(config.keep_checkpoints, config.finals.top) * searches + 1  # and the copy in best/
    return Forecast(
        name=config.name,
        concurrent=resources.expected,
        members=members,
        folds=folds,
        each=str(resources),
        device="GPU" if resources.gpus else "CPU",
        pilot=pilot,
        training_seconds=training,
        prepare_seconds=prepare_seconds,
        phases=phases,
        mean_epochs=_mean_epochs(config.stopping, epochs, folds) if config.objective == "single" else epochs * folds,
        first_result_seconds=prepare_seconds + phases[0].seconds + together * folds,
        disk=pilot.checkpoint * (kept + 2 * SNAPSHOT_PER_CHECKPOINT * resources.expected * members),
    )


def work_ahead(context: StudyContext, searches: int) -> tuple[PhaseWork, ...]:
    """What the phases of a study train, in epochs by the clock, at so many trainings at a time."""
    config, epochs, concurrent = context.config, context.base.training.epochs, context.cluster.resources.expected
    folds, finals = context.folds, config.finals
    mean = _mean_epochs(config.stopping, epochs, folds) if config.objective == "single" else epochs * folds
    trial_batches = math.ceil(config.trials / context.members) * searches
    first = min(finals.min_replicates, finals.replicates)

    def replicates(count: int) -> float:
        return epochs * math.ceil(_arms(config, searches) * count / concurrent)

    return (
        PhaseWork(phase="baseline", epochs=epochs * folds * math.ceil(config.baseline_seeds / concurrent)),
        PhaseWork(phase="search", epochs=mean * math.ceil(trial_batches / concurrent)),
        PhaseWork(phase="finals", epochs=replicates(first), maybe=replicates(finals.replicates - first)),
        PhaseWork(phase="verification", epochs=epochs * folds * math.ceil(finals.seeds / concurrent)),
    )


def _arms(config: StudyConfig, searches: int) -> int:
    """What the finals train at most: beside the best there are plain feedback, a control each, and a uniform trial,
    which is its own control."""
    return 2 * searches + 1 if config.tournament else 2 * (config.finals.top + 1) + 2


def _mean_epochs(stopping: StoppingConfig, epochs: int, folds: int) -> float:
    """Mean epochs of a trial under successive halving, whose rungs let 1 / reduction of the trials pass.

    Rungs lie on the first fold; with several there is one at its end.

    The first trials pass with little to be held against, so this is what many come near to.
    """
    if stopping.rule != "asha":
        return epochs * folds
    mean, share, rung, last = 0.0, 1.0, float(stopping.grace), 0.0
    while rung < epochs + (folds > 1):
        mean, last = mean + share * (rung - last), rung
        share, rung = share / stopping.reduction, rung * stopping.reduction
    return mean + share * (epochs * folds - last)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 1:
        return f"{1e3 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
