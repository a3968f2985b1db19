"""The search of a study: trials by Ray Tune, suggested by Optuna, until as many as asked for have an outcome."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import optuna
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from results.analysis.tables import write_tables
from results.records.optuna_trials import finished_trials, prior_trials, read_search, warm_records
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from search_spaces import SearchSpace
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.prepare import PreparedData
from spinlock_dist.training.snapshot import discard
from study.cluster.ray_cluster import Cluster
from study.cluster.resources import members_per_worker
from study.config import StudyConfig
from study.monitor.prometheus import PrometheusExporter
from study.monitor.tensorboard import TensorBoardWriter
from study.monitor.terminal import Progress
from study.samplers.registry import make_sampler
from study.search.checkpoint_retention import CheckpointRetention
from study.search.constraints import COUNT
from study.search.schedulers import PerTrialScheduler, make_scheduler
from study.search.searcher import AskTellSearcher, StopWhenGivenUp, WorkerDeaths
from study.search.stop_criteria import ENDED, StopCriteria
from study.search.storage import open_storage, release
from study.search.warm_start import (
    WARM_STARTED,
    PriorTrials,
    add_baseline,
    add_earlier_studies,
    earlier_studies,
    enqueue_initial_trials,
)
from study.worker.actor import trial_actor
from study.worker.retry_policy import StudyError, killed_by_memory_monitor
from study.worker.trainable import Objective, room, train


class Search:
    """One search, in a folder of its own, with a journal of its own."""

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        folder: StudyFolder,
        data: PreparedData,
        cluster: Cluster,
        objective: Objective,
        progress: Progress,
        addresses: dict[str, str],
        enqueue_initial: bool,
    ):
        self.config = config
        self.space = space
        self.base = space.to_config(config.base, {})
        self.folder = folder
        self.data = data
        self.cluster = cluster
        self.objective = objective
        self.progress = progress
        self.addresses = addresses
        """Where the study can be watched, by what is shown there."""
        self.enqueue_initial = enqueue_initial
        """Whether the initial trials are tried before anything is searched."""
        self.members = members_per_worker(config.cluster, cluster.resources, config.trials)
        """Trials in lock step on a worker, as far as their settings allow it."""
        self.kept = CheckpointRetention(
            folder, max(config.keep_checkpoints, config.finals.top), config.objective == "pareto"
        )
        self.warm: list[TrialRecord] = []
        """Trials of earlier studies, of which the sampler knows."""
        self.watchers: list[PrometheusExporter | TensorBoardWriter] = []
        """Beside the terminal."""
        self.reason = ""
        """Why the search ended."""

    def run(self, baseline: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Run trials until as many as asked for have an outcome."""
        assert baseline[0].metrics is not None
        study = self.open(baseline[0])
        limits = StopCriteria(self.config.until, study, self.cluster.resources)
        stopped = 0
        try:
            if len(finished_trials(study)) < self.config.trials and limits.reason() is None:
                self.fit(study, baseline[0].metrics, limits)
        finally:
            with suppress(OSError):  # on a full disk the next driver has to do it
                stopped = release(study, "interrupted", "the study was stopped")
                limits.keep()
            records = read_search(study)
            with suppress(OSError):
                write_tables(self.folder, [*baseline, *self.warm, *records])
        reason = f"all {len(records)} trials are done" if len(records) >= self.config.trials else limits.reason()
        if reason is None or stopped:  # Tune returns as if all were well when it is interrupted
            raise KeyboardInterrupt
        study.set_user_attr(ENDED, reason)
        self.reason = reason
        self.progress.say(f"search ended: {reason}")
        return records

    def open(self, baseline: TrialRecord) -> optuna.Study:
        """Open the journal and put it in order: no trial runs in it, what is known is told or asked for first."""
        assert baseline.metrics is not None
        self.folder.path.mkdir(parents=True, exist_ok=True)
        study = open_storage(self.folder, self.config, COUNT[self.config.objective], self.progress.say)
        study.sampler = make_sampler(self.config, self.space)
        lost = release(study, "driver lost", "the driver was lost")
        self.kept.add(read_search(study))
        if lost:
            self.progress.say(f"trials that were running when the driver was lost: {lost}; they are tried again")
        prior = PriorTrials(study, self.space, baseline.metrics, self.config.guards)
        told = add_baseline(prior, self.config.base, baseline)
        if self.config.warm_start and WARM_STARTED not in study.user_attrs:
            add_earlier_studies(prior, earlier_studies(self.config, self.space))
        self.warm = warm_records(study)
        if self.warm:
            self.progress.say(f"warm start: {len(self.warm)} trials of {', '.join(self.config.warm_start)}")
        if self.enqueue_initial:
            enqueue_initial_trials(study, self.space, self.config.base, told)
        study.set_user_attr(ENDED, None)
        return study

    def fit(self, study: optuna.Study, baseline: Metrics, limits: StopCriteria) -> None:
        """Let Ray Tune run trials until as many as asked for have an outcome."""
        self.progress.say(f"search: {self.config.trials} trials of up to {self.base.training.epochs} epochs")
        epochs, addresses = self.base.training.epochs, self.addresses
        records, trials, concurrent = read_search(study), self.config.trials, self.cluster.resources.concurrent
        self.progress.begin(trials, records, baseline, epochs=epochs, addresses=addresses)
        self.watchers = [
            PrometheusExporter(self.config.name, baseline, records, target=trials, concurrent=concurrent),
            *([TensorBoardWriter(self.folder.tensorboard)] if self.config.tensorboard else []),
        ]
        try:
            while not self.fitted(study, baseline, limits):
                self.progress.say("Ray's memory monitor killed a process: the trials that ran get twice the room")
        finally:
            self.progress.end()
            for watcher in self.watchers:
                watcher.close()
            shutil.rmtree(self.folder.scratch, ignore_errors=True)  # the journal has all that is gone on from

    def fitted(self, study: optuna.Study, baseline: Metrics, limits: StopCriteria) -> bool:
        """Run Tune once. Return False if Ray's memory monitor ended it: Tune takes that for a fault of its own."""
        searcher = AskTellSearcher(
            study,
            self.space,
            self.config.base,
            target=self.config.trials,
            baseline=baseline,
            guards_config=self.config.guards,
            resources=self.cluster.resources,
            members=self.members,
            batch=self.config.batch,
            limit=limits.reason,
            told=partial(self.ended, limits),
            say=self.progress.say,
            closed=self.closed,
        )
        try:
            self.tuner(study, searcher).fit()
        except Exception as error:
            if killed_by_memory_monitor(error) and release(study, "out of memory", "Ray's memory monitor killed it"):
                return False
            raise
        if searcher.failure is not None:
            raise StudyError(f"the search was given up: {searcher.failure}")
        return True

    def ended(self, limits: StopCriteria, record: TrialRecord) -> None:
        """Take note of a trial of the search that has an outcome."""
        limits.keep()
        self.kept.add([record])
        for watcher in (self.progress, *self.watchers):
            watcher.told(record)

    def closed(self, trial_batch: str) -> None:
        """Remove the snapshots of a trial batch of which nothing goes on."""
        discard(self.folder.snapshots / trial_batch)

    def tuner(self, study: optuna.Study, searcher: AskTellSearcher) -> tune.Tuner:
        """Return a new Tuner: what it needs from earlier runs is in the journal, not in Tune's snapshots."""
        resources = self.cluster.resources
        trainable = tune.with_parameters(
            train,
            objective=self.objective,
            data=self.data,
            resources=resources,
            checkpoints=str(self.folder.checkpoint(0).parent),
            snapshots=str(self.folder.snapshots),
            snapshot_seconds=self.config.cluster.snapshot_seconds,
        )
        return tune.Tuner(
            trial_actor(trainable, room, self.config.name),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=self.scheduler(study),
                num_samples=-1,  # the searcher knows when it is done
                max_concurrent_trials=resources.concurrent,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=self.folder.scratch.name,
                storage_path=str(self.folder.tune),
                stop=StopWhenGivenUp(searcher),
                callbacks=[self.progress, *self.watchers, WorkerDeaths(searcher.on_death)],
                verbose=0,
            ),
        )

    def scheduler(self, study: optuna.Study) -> PerTrialScheduler:
        """Return what stops trials early; in a deterministic study each is held against earlier batches alone.

        Nothing does for a front, of which Optuna keeps no intermediate values.
        """

        def rule() -> TrialScheduler:
            told = [*prior_trials(study), *finished_trials(study)]
            return make_scheduler(self.config.stopping, self.base.training.epochs, told)

        if self.config.objective == "pareto":
            self.progress.say("  every trial trains to its end: of several objectives no curves are kept to stop by")
            return PerTrialScheduler(lambda _: FIFOScheduler())
        common = rule()
        return PerTrialScheduler(lambda _: rule() if self.config.batch else common)


def _trial_name(trial: tune.experiment.Trial) -> str:
    trial_batch, attempt = trial.config["trial_batch"], trial.config["attempt"]
    return trial_batch + (f".{attempt}" if attempt > 1 else "")
