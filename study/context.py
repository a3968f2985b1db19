"""What the phases of a study share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import ray

from results.records.study_folder import StudyFolder
from results.records.trial_record import Phase, TrialRecord, arm_of
from search_spaces import SearchSpace
from spinlock_dist.command import tool, typed
from spinlock_dist.config import TrialConfig
from spinlock_dist.prepare import PreparedData
from study.cluster.held_devices import held
from study.cluster.ray_cluster import Cluster
from study.cluster.resources import members_per_worker
from study.config import StudyConfig
from study.events import Broadcast
from study.monitor.tracking import tracker_addresses
from study.samplers.build import GivenSampler
from study.worker.device_health import DeviceHealth
from study.worker.tasks import Workers
from study.worker.trainable import Objective, Training, WorkerSetup


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """A study whose settings are checked, whose cluster runs and whose data is prepared."""

    config: StudyConfig
    space: SearchSpace
    folder: StudyFolder
    data: PreparedData
    cluster: Cluster
    objective: Objective
    """What trains: the core, or a stand-in."""
    events: Broadcast
    health: DeviceHealth
    """Which devices failed, and which nothing is to run on any more."""
    usable: frozenset[str] = frozenset()
    """Ids of the nodes where torch could use all GPUs when the study began."""
    sampler: GivenSampler | None = None
    """A sampler that is none of `study.samplers`, as it was handed in."""
    identity: str = ""
    """What the files of the study belong to; empty where an earlier version began it."""
    prepare_seconds: float = 0.0
    """What preparing the data took."""

    @cached_property
    def base(self) -> TrialConfig:
        """What all trials have in common: the config's base, with what the space fixes."""
        return self.space.to_config(self.config.base, {})

    @cached_property
    def uniform(self) -> TrialConfig:
        """The baseline, which differs from the trials in its ratios alone."""
        return self.base.with_overrides({"compression.strategy": "uniform"})

    @property
    def folds(self) -> int:
        """Trainings of a trial of the search."""
        return self.base.prepare.split.folds

    @property
    def members(self) -> int:
        """Trials in lock step on a worker, as far as their settings allow it; fewer once there are more workers."""
        return members_per_worker(self.config.cluster, self.cluster.resources, self.config.trials, self.cluster.slots())

    @property
    def setup(self) -> WorkerSetup:
        """What workers need beside the data."""
        seconds = self.config.cluster.snapshot_seconds
        return WorkerSetup(self.objective, self.cluster.resources, self.folder.snapshots, seconds, self.usable)

    @property
    def workers(self) -> Workers:
        """Runs trainings outside of the search."""
        return Workers(self.setup, self.cluster.slots, self.health, self.events.on_message)

    def trained(self, trainings: Iterable[Training]) -> Iterator[TrialRecord]:
        """Yield the record of each training as it ends, and tell whoever watches. Raises what `Workers.run` does."""
        for record in self.workers.run(trainings):
            self.events.on_training_end(record)
            yield record

    @contextmanager
    def devices_held(self) -> Iterator[None]:
        """Keep everything from the devices that are set aside, meanwhile."""
        with held(self.health.set_aside):
            yield

    @property
    def addresses(self) -> dict[str, str]:
        """Where the study can be watched beside the terminal, by what is shown there."""
        runs = "" if self.folder.path.parent == Path("runs").resolve() else f" --runs {self.folder.path.parent}"
        own = {"Optuna dashboard (trials, curves)": f"{typed('study.dashboard')} {self.config.name}{runs}"}
        own |= (
            {"TensorBoard": f"{tool('tensorboard')} --logdir {self.folder.tensorboard}"}
            if self.config.tensorboard
            else {}
        )
        own |= tracker_addresses(self.config, self.folder)
        return own | ({"Ray dashboard (what runs where, logs)": self.cluster.notice} if self.cluster.notice else {})

    def trial(self, record: TrialRecord) -> TrialConfig:
        """The config of a trial of a search."""
        return self.space.to_config(self.config.base, record.params)

    def checkpoint(self, record: TrialRecord) -> Path:
        """The checkpoint of a trial of a search."""
        return self.folder.arm(arm_of(record.arm)).checkpoint(record.number)

    def trainings(self, phase: Phase, arms: Mapping[str, tuple[TrialConfig, int]]) -> Iterator[Training]:
        """Yield trainings on the study's own split. `arms`: a config, and how many seeds of it from the trials' on."""
        data = ray.put(self.data)
        for arm, (config, seeds) in arms.items():
            for number in range(seeds):
                seeded = config.model_copy(update={"seed": config.seed + number})
                yield Training(phase=phase, arm=arm, number=number, config=seeded, data=data)
