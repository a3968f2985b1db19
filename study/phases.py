"""A study from end to end: prepare, baseline, search, finals, export. A phase that is done is not run again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import optuna
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from results.export import export_config, export_readme, withdraw_export
from results.files import write_json
from results.front import front
from results.study_folder import StudyFolder
from results.trial_record import Phase, TrialRecord, feasible_records, read_records, write_records, write_tables
from results.verdict import BASELINE, Verdict, conclude, judge
from results.verification import Verification, verify
from search_spaces import SearchSpace, load_space
from spinlock_dist.config import TrialConfig, load_config
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial
from spinlock_dist.training.snapshot import discard
from study.borrowed import (
    WARM_STARTED,
    Lender,
    check_fingerprint,
    earlier_studies,
    known_answers,
    lend_baseline,
    lend_earlier,
    warm_records,
)
from study.cluster import Cluster, preflight, running
from study.config import StudyConfig
from study.description import begin, check_data, continued, describe
from study.faults import StudyError, explained, killed_by_memory_monitor
from study.finals import REPLICATES, Finals
from study.journal import borrowed, open_journal, read_search, release, settled
from study.keeping import Kept
from study.objective import COUNT
from study.progress import Progress, score
from study.sampler import check_sampler, make_sampler
from study.searcher import AskTellSearcher, Deaths, GivenUp
from study.slots import slot, trial_name
from study.stopping import ByNumber, make_scheduler
from study.storage import check_storage
from study.trainable import Objective, room, train
from study.until import ENDED, Limits, check_until
from study.workers import Training, Workers


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study found."""

    folder: StudyFolder
    baseline: tuple[TrialRecord, ...]
    """Trainings of the uniform baseline; the trials are held against the first."""
    search: tuple[TrialRecord, ...]
    ended: str
    """Why the search ended."""
    finals: tuple[TrialRecord, ...]
    """Finalists and baseline on the test rows of every replicate."""
    best: TrialRecord | None
    """The finalist that is exported: the first of those with the best verdict."""
    front: tuple[TrialRecord, ...]
    """With `objective: pareto`, the feasible trials that none beats in imbalance, mean FVU and utilization together."""
    verdict: Verdict
    conclusion: str


def run(
    config: StudyConfig, *, resume: bool = False, objective: Objective = run_trial, console: Console | None = None
) -> StudyResult:
    """Run a study, or with `resume` go on with it, and return what it found; everything is kept in its folder.

    Uses the Ray cluster this process is connected to, joins the one at `config.cluster.address`, or starts its own.
    Raises `ConfigError`, `DataError` or `ResourceError` for what cannot be run, `StudyError` if trial after trial
    fails, `KeyboardInterrupt` when interrupted; whatever had an outcome by then is kept.
    """
    config = _resolved(config)
    space = _space(config)
    check_sampler(config, space)
    preflight(config.cluster)
    folder = begin(config, space, resume)
    earlier = [] if resume else earlier_studies(config, space)  # refused before anything slow begins
    progress = Progress(console or Console(quiet=True))
    with folder.lock():
        data = _prepare(config, progress)
        check_fingerprint(earlier, data)
        if resume:
            check_data(folder, data)
        with running(config.cluster, progress.say) as cluster, explained(folder.path):
            check_storage(folder.path)
            if config.deterministic:
                config = config.model_copy(update={"batch": _batch(config, folder, resume, cluster)})
            check_until(config.until, cluster.resources)
            if resume:
                folder.write_description(continued(folder.read_description(), config))
            else:
                folder.write_prepared(data)
                folder.write_description(describe(config, space, data, cluster))
            return _Study(config, space, folder, data, cluster, objective, progress).run()


def _resolved(config: StudyConfig) -> StudyConfig:
    """Return `config` with paths that mean the same from every folder, and no GPU for trials that are told `cpu`."""
    prepare = config.base.prepare
    categories = prepare.categories.model_copy(update={"mapping": _absolute(prepare.categories.mapping)})
    prepare = prepare.model_copy(update={"dataset": _absolute(prepare.dataset), "categories": categories})
    cluster = config.cluster
    if config.base.training.device == "cpu" and cluster.gpus is None:
        cluster = cluster.model_copy(update={"gpus": 0})
    base = config.base.model_copy(update={"prepare": prepare})
    return config.model_copy(update={"base": base, "cluster": cluster, "runs": str(Path(config.runs).resolve())})


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _space(config: StudyConfig) -> SearchSpace:
    space = load_space(config.space)
    if config.epochs is None:
        return space
    return replace(space, fixed={**space.fixed, "training.epochs": config.epochs})


def _batch(config: StudyConfig, folder: StudyFolder, resume: bool, cluster: Cluster) -> int:
    """Return the trials of a batch: as it was started, wherever the study goes on."""
    stored = folder.read_description()["config"]["batch"] if resume else None
    return stored or config.batch or cluster.resources.concurrent


def _prepare(config: StudyConfig, progress: Progress) -> PreparedData:
    progress.say(f"preparing {config.base.prepare.dataset or 'simulated operators'}")
    data = prepare(config.base.prepare)
    rows, features = data.values.shape
    progress.say(f"  {rows} rows, {features} features in {len(data.categories)} categories")
    return data


class _Study:
    """One run of the phases, with what they share."""

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        folder: StudyFolder,
        data: PreparedData,
        cluster: Cluster,
        objective: Objective,
        progress: Progress,
    ):
        self.config = config
        self.space = space
        self.base = space.to_config(config.base, {})
        self.folder = folder
        self.data = data
        self.cluster = cluster
        self.objective = objective
        self.workers = Workers(cluster.resources, objective, folder.snapshots, config.cluster.snapshot_seconds)
        self.progress = progress
        self.kept = Kept(folder, max(config.keep_checkpoints, config.finals.top), config.objective == "pareto")
        self.warm: list[TrialRecord] = []
        self.search_ended = ""

    def run(self) -> StudyResult:
        """Run what is not done yet."""
        resources = self.cluster.resources
        self.progress.say(f"{resources.concurrent} trials at a time, {resources} each")
        for what, address in self.addresses().items():
            self.progress.say(f"{what}: {address}")
        baseline = self.baseline()
        search = self.search(baseline)
        finalists = feasible_records(search)[: self.config.finals.top]
        finals = self.finals(finalists)
        verdict = judge(finals, REPLICATES[self.config.finals.data], self.overlap())
        best = next((record for record in search if verdict.choice and record.arm == verdict.choice.arm), None)
        conclusion = conclude(baseline[0], search, verdict)
        if best is None:
            withdraw_export(self.folder)
            write_json(self.folder.verdict, verdict.to_json() | {"conclusion": conclusion})
        else:
            verification = self.verify(best, baseline, export_config(self.folder, best, self.trial(best)))
            conclusion = f"{conclusion} {verification}"
            found = {"exported": best.arm, "verification": verification.to_json(), "conclusion": conclusion}
            write_json(self.folder.verdict, verdict.to_json() | found)
            assert verdict.choice is not None
            export_readme(self.folder, best, baseline[0], verdict.choice, conclusion)
        self.write_tables([*baseline, *self.warm, *search, *finals])
        return StudyResult(
            folder=self.folder,
            baseline=tuple(baseline),
            search=tuple(search),
            ended=self.search_ended,
            finals=tuple(finals),
            best=best,
            front=tuple(front(search)) if self.config.objective == "pareto" else (),
            verdict=verdict,
            conclusion=conclusion,
        )

    def addresses(self) -> dict[str, str]:
        """Return where a study can be watched beside the terminal, by what is shown there."""
        runs = "" if self.folder.path.parent == Path("runs").resolve() else f" --runs {self.folder.path.parent}"
        own = {"Optuna dashboard (trials, curves)": f"python -m study.dashboard {self.config.name}{runs}"}
        return own | ({"Ray dashboard (nodes, processes, logs)": self.cluster.notice} if self.cluster.notice else {})

    # ------------------------------------------------------------ baseline

    def baseline(self) -> list[TrialRecord]:
        """Train the uniform baseline."""
        path = self.folder.records("baseline")
        if path.exists():
            return read_records(path)
        self.progress.say(f"baseline: uniform ratios, {self.config.baseline_seeds} seeds")
        arms = {BASELINE: (self.uniform(), self.config.baseline_seeds)}
        records = sorted(self.workers.run(self.trainings("baseline", arms)), key=lambda record: record.number)
        for record in records:
            if record.metrics is None:
                raise StudyError(f"the uniform baseline {record.reason}")
            self.progress.say(f"  seed {record.seed}: {score(record.metrics)}")
        write_records(path, records)
        return records

    def uniform(self) -> TrialConfig:
        """Return the config that differs from the trials' in its ratios alone."""
        return self.base.with_overrides({"compression.strategy": "uniform"})

    def trainings(self, phase: Phase, arms: dict[str, tuple[TrialConfig, int]]) -> Iterator[Training]:
        """Yield trainings on the study's own split: of each arm with the trials' seed and as many of those after it."""
        data = ray.put(self.data)
        for arm, (config, seeds) in arms.items():
            for number in range(seeds):
                seeded = config.model_copy(update={"seed": config.seed + number})
                yield Training(phase=phase, arm=arm, number=number, config=seeded, data=data)

    # ------------------------------------------------------------ search

    def search(self, baseline: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Run trials until as many as asked for have an outcome."""
        assert baseline[0].metrics is not None
        study = self.open_search(baseline[0])
        limits = Limits(self.config.until, study, self.cluster.resources)
        stopped = 0
        try:
            if len(settled(study)) < self.config.trials and limits.reason() is None:
                self.fit(study, baseline[0].metrics, limits)
        finally:
            with suppress(OSError):  # on a full disk the next driver has to do it
                stopped = release(study, "interrupted", "the study was stopped")
                limits.keep()
            records = read_search(study)
            with suppress(OSError):
                self.write_tables([*baseline, *self.warm, *records])
        reason = f"all {len(records)} trials are done" if len(records) >= self.config.trials else limits.reason()
        if reason is None or stopped:  # Tune returns as if all were well when it is interrupted
            raise KeyboardInterrupt
        study.set_user_attr(ENDED, reason)
        self.search_ended = reason
        self.progress.say(f"search ended: {reason}")
        return records

    def open_search(self, baseline: TrialRecord) -> optuna.Study:
        """Open the journal and put it in order: no trial runs in it, what is known is told or asked for first."""
        assert baseline.metrics is not None
        study = open_journal(self.folder.journal, self.config.name, COUNT[self.config.objective], self.progress.say)
        study.sampler = make_sampler(self.config, self.space)
        lost = release(study, "driver lost", "the driver was lost")
        self.kept.add(read_search(study))
        if lost:
            self.progress.say(f"trials that were running when the driver was lost: {lost}; they are tried again")
        lender = Lender(study, self.space, baseline.metrics, self.config.guards)
        told = lend_baseline(lender, self.config.base, baseline)
        if self.config.warm_start and WARM_STARTED not in study.user_attrs:
            lend_earlier(lender, earlier_studies(self.config, self.space))
        self.warm = warm_records(study)
        if self.warm:
            self.progress.say(f"warm start: {len(self.warm)} trials of {', '.join(self.config.warm_start)}")
        known_answers(study, self.space, self.config.base, told)
        study.set_user_attr(ENDED, None)
        return study

    def fit(self, study: optuna.Study, baseline: Metrics, limits: Limits) -> None:
        """Let Ray Tune run trials until as many as asked for have an outcome."""
        self.progress.say(f"search: {self.config.trials} trials of up to {self.base.training.epochs} epochs")
        epochs, addresses = self.base.training.epochs, self.addresses()
        self.progress.begin(self.config.trials, read_search(study), baseline, epochs=epochs, addresses=addresses)
        try:
            while not self.fitted(study, baseline, limits):
                self.progress.say("Ray's memory monitor killed a process: the trials that ran get twice the room")
        finally:
            self.progress.end()
            shutil.rmtree(self.folder.scratch, ignore_errors=True)  # the journal has all that is gone on from

    def fitted(self, study: optuna.Study, baseline: Metrics, limits: Limits) -> bool:
        """Run Tune once. Return False if Ray's memory monitor ended it: Tune takes that for a fault of its own."""
        searcher = AskTellSearcher(
            study,
            self.space,
            self.config.base,
            target=self.config.trials,
            baseline=baseline,
            guards_config=self.config.guards,
            resources=self.cluster.resources,
            batch=self.config.batch,
            limit=limits.reason,
            told=partial(self.ended, limits),
            say=self.progress.say,
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

    def ended(self, limits: Limits, record: TrialRecord) -> None:
        """Take note of a trial of the search that has an outcome."""
        limits.keep()
        discard(self.folder.snapshots / trial_name(record.number))
        self.kept.add([record])
        self.progress.told(record)

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
            slot(trainable, room, self.config.name),
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
                stop=GivenUp(searcher),
                callbacks=[self.progress, Deaths(searcher.on_death)],
                verbose=0,
            ),
        )

    def scheduler(self, study: optuna.Study) -> ByNumber:
        """Return what stops trials early; in a deterministic study each is held against earlier batches alone.

        Nothing does for a front, of which Optuna keeps no intermediate values.
        """

        def rule() -> TrialScheduler:
            told = [*borrowed(study), *settled(study)]
            return make_scheduler(self.config.stopping, self.base.training.epochs, told)

        if self.config.objective == "pareto":
            self.progress.say("  every trial trains to its end: of several objectives no curves are kept to stop by")
            return ByNumber(lambda _: FIFOScheduler())
        common = rule()
        return ByNumber(lambda _: rule() if self.config.batch else common)

    # ------------------------------------------------------------ finals

    def finals(self, finalists: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Train the finalists and the baseline on the replicates."""
        if not finalists:
            return []
        finals = Finals(self.config, self.folder, self.data, self.workers, self.progress.say)
        return finals.run({BASELINE: self.uniform(), **{record.arm: self.trial(record) for record in finalists}})

    def overlap(self) -> float:
        """Return test rows / training rows where all replicates split the same rows, else 0."""
        split = self.config.base.prepare.split
        return split.test / split.train if self.config.finals.data == "splits" else 0.0

    def trial(self, record: TrialRecord) -> TrialConfig:
        """Return the config of a trial of the search."""
        return self.space.to_config(self.config.base, record.params)

    def verify(self, best: TrialRecord, baseline: Sequence[TrialRecord], exported: Path) -> Verification:
        """Train the exported config again on the study's own split, once with the trial's seed, and the baseline."""
        path = self.folder.records("verification")
        records = read_records(path) if path.exists() else []
        if not any(record.arm == best.arm for record in records):
            self.progress.say(f"verification: trial {best.number} from {exported.parent.name}/{exported.name}")
            arms = {best.arm: (load_config(exported), self.config.finals.seeds), BASELINE: (self.uniform(), 1)}
            records = list(self.workers.run(self.trainings("verification", arms)))
            write_records(path, records)
        return verify(best, baseline, records)

    def write_tables(self, records: Sequence[TrialRecord]) -> None:
        """Write trials.parquet and curves.parquet."""
        write_tables(self.folder.trials, self.folder.curves, records)


def _trial_name(trial: tune.experiment.Trial) -> str:
    number, attempt = trial.config["number"], trial.config["attempt"]
    return trial_name(number) + (f".{attempt}" if attempt > 1 else "")
