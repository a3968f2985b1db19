"""The search: trials by Ray Tune, suggested by Optuna, until as many as asked for have an outcome."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import optuna
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from results.analysis.tables import write_tables
from results.records.optuna_trials import ENDED, finished_trials, prior_trials, read_search, warm_records
from results.records.settings import TrialSettings
from results.records.trial_record import TrialRecord, full_arm
from spinlock_dist.out_of_fold import run_folds
from spinlock_dist.run import training_hash
from spinlock_dist.training.member import config_hash
from study.context import StudyContext
from study.events import Broadcast, PhaseStart, SearchStart
from study.phases.tournament import Arm
from study.samplers.build import guards_notice, make_sampler, study_prior
from study.search.checkpoint_retention import CheckpointRetention
from study.search.constraints import COUNT, Baseline
from study.search.driver_journal import together
from study.search.expected_gain import expected_gain, in_words
from study.search.optuna_internals import enqueued_params, trial_at
from study.search.owner import claim
from study.search.schedulers import NeverStop, PerTrialScheduler, make_scheduler
from study.search.searcher import AskTellSearcher, SearchPlan, StopWhenGivenUp
from study.search.stop_criteria import StopCriteria
from study.search.storage import open_storage, release
from study.search.tune_events import TuneEvents
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
from study.worker.trainable import reserved_resources, train

NO_LIMIT = 2**20
"""The searcher knows how many trials have room. Tune starts as many processes at a time as this, one without it."""


@dataclass(frozen=True)
class Searched:
    """What the searches of a study found."""

    by_arm: dict[str, list[TrialRecord]]
    """The trials of each search; outside of a tournament there is one, called by the empty string."""
    warm: list[TrialRecord]
    """Trials of earlier studies that the samplers learned from."""
    ended: str
    """Why the search ended, in a tournament each of them."""

    @property
    def records(self) -> list[TrialRecord]:
        """The trials of all searches."""
        return [record for records in self.by_arm.values() for record in records]


def run_searches(context: StudyContext, arms: Sequence[Arm], baseline: Sequence[TrialRecord]) -> Searched:
    """Run what is missing of the searches, one after the other. Records of a tournament are named after their arm."""
    found = Searched({}, [], "")
    for arm in arms:
        if arm.name:
            context.events.on_message(f"tournament: {arm.name}")
        own = replace(context, config=arm.config, space=arm.space, folder=context.folder.arm(arm.name))
        search = Search(own, arm.enqueue_initial)
        total, done = len(arms) * context.config.trials, len(found.records)
        with context.events.phase(PhaseStart(phase="search", total=total, done=done, unit="trials")):
            records = [replace(record, arm=full_arm(arm.name, record.arm)) for record in search.run(baseline)]
        ended = [*filter(None, [found.ended]), f"{arm.name}: {search.reason}" if arm.name else search.reason]
        found = Searched({**found.by_arm, arm.name: records}, found.warm + search.warm, "; ".join(ended))
    return found


class Search:
    """One search, in a folder of its own, with a journal of its own."""

    def __init__(self, context: StudyContext, enqueue_initial: bool = True):
        self.context = context
        self.enqueue_initial = enqueue_initial
        """Whether the initial trials are tried before anything is searched."""
        config = context.config
        count = max(config.keep_checkpoints, config.finals.top)
        self.retention = CheckpointRetention(context.folder, count, config.objective == "pareto")
        self.warm: list[TrialRecord] = []
        """Trials of earlier studies that the sampler learned from."""
        self.reason = ""
        """Why the search ended."""

    def run(self, baseline: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Run trials until as many as asked for have an outcome. Raises `KeyboardInterrupt` if it is interrupted."""
        assert baseline[0].metrics is not None
        config = self.context.config
        study = self.open(baseline)
        cluster = self.context.cluster
        criteria = StopCriteria(config.until, study, lambda: cluster.slots() * cluster.resources.gpus)
        stopped = 0
        try:
            if len(finished_trials(study)) < config.trials and criteria.reason() is None:
                self.fit(study, Baseline.of(baseline), criteria)
        finally:
            with suppress(OSError):  # on a full disk the next driver has to do it
                stopped = release(study, "interrupted", "the study was stopped")
                criteria.keep()
            records = read_search(study)
            with suppress(OSError):
                write_tables(self.context.folder, [*baseline, *self.warm, *records])
        reason = f"all {len(records)} trials are done" if len(records) >= config.trials else criteria.reason()
        if reason is None or stopped:  # Tune returns as if all were well when it is interrupted
            raise KeyboardInterrupt
        with together(study):
            study.set_user_attr(ENDED, reason)
        self.reason = reason
        self.context.events.on_message(f"search ended: {reason}")
        if config.until.gain is None and (gain := expected_gain(study)) is not None:
            self.context.events.on_message(in_words(gain))
        return records

    def open(self, baseline: Sequence[TrialRecord]) -> optuna.Study:
        """Open the storage and put it in order: no stale trials, prior trials added, initial trials enqueued."""
        config, folder = self.context.config, self.context.folder
        say = self.context.events.on_message
        folder.path.mkdir(parents=True, exist_ok=True)
        study = open_storage(folder, config, COUNT[config.objective], say)
        kept_in = folder.elsewhere if folder.elsewhere.exists() else folder.journal
        claim(study, self.context.identity, config.name, self.context.data.fingerprint, kept_in)
        prior = study_prior(config, self.context.space)
        study.sampler = make_sampler(config, self.context.sampler, prior)
        if prior is not None:
            say(f"prior: {prior}")
        if notice := guards_notice(config, self.context.sampler):
            say(notice)
        lost = release(study, "driver lost", "the driver was lost")
        self.retention.add(read_search(study, details=False))
        if lost:
            say(f"trials that were running when the driver was lost: {lost}; they are tried again")
        with together(study):
            self.prepare(study, baseline)
        return study

    def prepare(self, study: optuna.Study, baseline: Sequence[TrialRecord]) -> None:
        """Add prior trials, and enqueue the initial ones."""
        config, space, say = self.context.config, self.context.space, self.context.events.on_message
        prior = PriorTrials(study, space, Baseline.of(baseline), config.guards)
        has_baseline = add_baseline(prior, config.base, baseline[0])
        if config.warm_start and WARM_STARTED not in study.user_attrs:
            add_earlier_studies(prior, earlier_studies(config, space))
        self.warm = warm_records(study)
        if self.warm:
            say(f"warm start: {len(self.warm)} trials of {', '.join(config.warm_start)}")
        if self.enqueue_initial:
            enqueue_initial_trials(study, space, config.base, has_baseline)
        study.set_user_attr(ENDED, None)

    def fit(self, study: optuna.Study, baseline: Baseline, criteria: StopCriteria) -> None:
        """Let Ray Tune run trials, again where Ray's memory monitor ended it."""
        context = self.context
        events = context.events.with_parts(criteria, self.retention)
        epochs = context.base.training.epochs
        folds = f" on each of {context.folds} folds" if context.folds > 1 else ""
        events.on_message(f"search: {context.config.trials} trials of up to {epochs} epochs{folds}")
        events.on_search_start(
            SearchStart(
                study=context.config.name,
                folder=context.folder,
                target=context.config.trials,
                earlier=tuple(read_search(study, details=False)),
                epochs=epochs * context.folds,
                slots=context.cluster.slots,
                members=context.members,
                baseline=baseline.metrics,
                settings=TrialSettings.of(context.base),
                addresses=context.addresses,
            )
        )
        plan = SearchPlan(
            space=context.space,
            base=context.config.base,
            target=context.config.trials,
            baseline=baseline,
            guards=context.config.guards,
            resources=context.cluster.resources,
            slots=context.cluster.slots,
            members=lambda: context.members,
            health=context.health,
            batch=context.config.batch,
            # A stand-in may read settings that the core's trainings do not depend on.
            training_of=partial(training_hash, data=context.data) if context.objective is run_folds else config_hash,
        )
        try:
            while True:
                with context.devices_held():
                    if self.fitted(study, AskTellSearcher(study, plan, events, criteria.reason), events):
                        break
        finally:
            events.on_search_end()
            shutil.rmtree(context.folder.scratch, ignore_errors=True)  # the storage has all there is to resume from

    def fitted(self, study: optuna.Study, searcher: AskTellSearcher, events: Broadcast) -> bool:
        """Run Tune once. False if it has to be run again.

        Ray's memory monitor ended it, which Tune takes for an error of its own, or devices that are set aside left it
        no room.
        """
        try:
            with signals_given_back():
                self.tuner(study, searcher, events).fit()
        except Exception as error:
            if killed_by_memory_monitor(error) and release(study, "out of memory", "Ray's memory monitor killed it"):
                events.on_message("Ray's memory monitor killed a process: the trials that ran get twice the resources")
                return False
            raise
        if searcher.failure is not None:
            raise StudyError(f"the search was given up: {searcher.failure}")
        if searcher.crowded_out:
            release(study, "device fault", "its device was set aside")
            return False
        return True

    def tuner(self, study: optuna.Study, searcher: AskTellSearcher, events: Broadcast) -> tune.Tuner:
        """A new Tuner: what it needs of earlier runs is in the storage, not in Tune's snapshots."""
        context = self.context
        trainable = tune.with_parameters(
            train, data=context.data, setup=context.setup, checkpoints=context.folder.checkpoint(0).parent
        )
        return tune.Tuner(
            trial_actor(trainable, reserved_resources, context.config.name),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=self.scheduler(study),
                num_samples=-1,  # the searcher knows when it is done
                max_concurrent_trials=NO_LIMIT,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=context.folder.scratch.name,
                storage_path=str(context.folder.tune),
                stop=StopWhenGivenUp(searcher),
                callbacks=[TuneEvents(events, searcher.on_death, searcher.keeps_device)],
                verbose=0,
                progress_reporter=_Silent(),
            ),
        )

    def scheduler(self, study: optuna.Study) -> PerTrialScheduler:
        """What stops trials early; in a deterministic study each is compared with earlier batches alone.

        With several objectives nothing does: Optuna keeps no intermediate values of them.
        """

        def rule() -> TrialScheduler:
            ended = [*prior_trials(study), *finished_trials(study)]
            # With several folds there is a rung at the end of the first: the others are trained for what passes it.
            last = self.context.base.training.epochs + (self.context.folds > 1)
            return make_scheduler(self.context.config.stopping, last, ended)

        if self.context.config.objective == "pareto":
            self.context.events.on_message(
                "  every trial trains to its end: of several objectives no curves are kept to stop by"
            )
            return PerTrialScheduler(lambda _: FIFOScheduler())
        common = rule()

        def rule_of(number: int) -> TrialScheduler:
            """Those that were to be tried in any case are compared with, and train to their end."""
            chosen = rule() if self.context.config.batch else common
            return NeverStop(chosen) if enqueued_params(trial_at(study, number)) is not None else chosen

        return PerTrialScheduler(rule_of)


class _Silent(tune.ProgressReporter):
    """In the place of Tune's own, which clears the cell of a notebook and with it what the study has shown there."""

    def should_report(self, trials: Sequence[tune.experiment.Trial], done: bool = False) -> bool:
        """Never."""
        return False

    def report(self, trials: Sequence[tune.experiment.Trial], done: bool, *sys_info: str) -> None:
        """Is not called."""


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Have signals handled afterwards as before. Tune takes Ctrl-C over and keeps it: the finals would not heed it."""
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            with suppress(ValueError, TypeError):  # not the main thread, or a handler that Python did not set
                signal.signal(kind, handler)


def _trial_name(trial: tune.experiment.Trial) -> str:
    trial_batch, attempt = trial.config["trial_batch"], trial.config["attempt"]
    return trial_batch + (f".{attempt}" if attempt > 1 else "")
