"""A study from end to end. A phase that is done is not run again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from rich.console import Console

from results.analysis.pareto import front
from results.analysis.tables import write_tables
from results.records.standing import Standing
from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from results.records.trial_record import TrialRecord
from results.report.diagnoses import write_diagnoses
from results.report.render import write_report
from results.verdict.finding import Verdict
from results.verdict.sentences import conclude
from results.verdict.standings import conclude_tournament
from spinlock_dist.errors import SpinlockError
from spinlock_dist.out_of_fold import run_folds
from spinlock_dist.prepare import prepare
from spinlock_dist.shown import terminal_console
from spinlock_dist.simulator import cached_dataset
from spinlock_dist.training.warm_up import warm_up
from study.cluster.held_devices import gpus_by_node
from study.cluster.node_checks import JoiningNodes, check_nodes
from study.cluster.ray_cluster import Cluster, running
from study.config import StudyConfig
from study.context import StudyContext
from study.events import Broadcast, Ending, PhaseStart
from study.monitor.registry import MonitorSetup, make_monitors
from study.phases.baseline import run_baseline
from study.phases.belonging import check_records
from study.phases.estimate import Forecast, estimate, work_ahead
from study.phases.export import export_best
from study.phases.finals import run_finals
from study.phases.search import run_searches
from study.phases.tournament import rank_arms
from study.phases.verification import verification_records
from study.provenance import continued, describe, job_metadata
from study.samplers.build import GivenSampler
from study.validate import ValidatedStudy, validate
from study.worker.device_health import DeviceHealth
from study.worker.retry_policy import storage_errors_explained
from study.worker.trainable import Objective


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study found."""

    folder: StudyFolder
    baseline: tuple[TrialRecord, ...]
    """Trainings of the uniform baseline; the trials are compared with the first."""
    search: tuple[TrialRecord, ...]
    ended: str
    """Why the search ended."""
    finals: tuple[TrialRecord, ...]
    """Finalists, their controls and the baseline on the test rows, by arm and replicate."""
    best: TrialRecord | None
    """The finalist that is exported: the best of those with the best word."""
    front: tuple[TrialRecord, ...]
    """With `objective: pareto`, the feasible trials that none beats in imbalance, mean FVU and utilization together."""
    verdict: Verdict
    standings: tuple[Standing, ...]
    """With `tournament`, its arms in order; else none."""
    conclusion: str

    def __repr__(self) -> str:
        return f"<study {self.folder.name}: {self.conclusion}>"


def run(
    config: StudyConfig,
    *,
    resume: bool = False,
    objective: Objective = run_folds,
    console: Console | None = None,
    sampler: GivenSampler | None = None,
) -> StudyResult:
    """Run a study, or resume one, and return what it found; everything is kept in its folder.

    Progress is shown on `console`; by default below the cell of a notebook, and elsewhere not at all.
    `sampler` is any Optuna sampler, or a function that makes one from a seed, in the place of `config.sampler`.

    Uses the Ray cluster this process is connected to, joins the one at `config.cluster.address`, or starts its own.
    Raises `ConfigError`, `DataError` or `ResourceError` for what cannot be run, `StudyError` if trial after trial
    fails, `KeyboardInterrupt` when interrupted; whatever had an outcome by then is kept.
    """
    study = validate(config, resume=resume, sampler=sampler)
    folder, events = study.folder, _monitors(study, console)
    with (
        folder.lock(),
        storage_errors_explained(folder.path),
        _started(study, events) as cluster,
    ):
        study = study.on_cluster(cluster)
        checked = (folder.path, cluster.resources.gpus > 0, events.on_message)
        usable = check_nodes(*checked)
        events = events.with_parts(JoiningNodes(*checked), *filter(None, [cluster.demand]))
        context = replace(_prepared(study, cluster, objective, events), usable=usable)
        check_records(context)
        events.on_plan(work_ahead(context, len(study.arms)))
        with _end_told(events):
            with _described(study, context):
                events.on_study_start(folder)
                _greet(context)
                baseline = run_baseline(context)
                searched = run_searches(context, study.arms, baseline)
                check_records(context)
                finals, verdict, finalists = run_finals(context, searched)
                rows = rank_arms(folder, searched.by_arm, verdict) if context.config.tournament else []
                conclusion = conclude_tournament(rows, verdict) if rows else conclude(searched.records, verdict)
                with events.phase(PhaseStart(phase="verification", total=config.finals.seeds)):
                    best, conclusion = export_best(context, verdict, finalists, baseline, conclusion)
                verified = verification_records(folder)
                write_tables(folder, [*baseline, *searched.warm, *searched.records, *finals, *verified])
            _report(context)
    return StudyResult(
        folder=folder,
        baseline=tuple(baseline),
        search=tuple(searched.records),
        ended=searched.ended,
        finals=tuple(finals),
        best=best,
        front=tuple(front(searched.records)) if context.config.objective == "pareto" else (),
        verdict=verdict,
        standings=tuple(rows),
        conclusion=conclusion,
    )


def dry_run(
    config: StudyConfig,
    *,
    objective: Objective = run_folds,
    console: Console | None = None,
    sampler: GivenSampler | None = None,
) -> Forecast:
    """What a new study will cost. It refuses what `run` would, trains two epochs and leaves no folder."""
    study = validate(config, sampler=sampler)
    events = _monitors(study, console)
    with _started(study, events, most=1) as cluster:
        return estimate(_prepared(study.on_cluster(cluster), cluster, objective, events), len(study.arms))


def _monitors(study: ValidatedStudy, console: Console | None) -> Broadcast:
    return make_monitors(MonitorSetup(study.config, console or _notebook() or Console(quiet=True)))


def _notebook() -> Console | None:
    """A console that shows lines below a notebook's cell; None elsewhere."""
    console = terminal_console()
    return console if console.is_jupyter else None


@contextmanager
def _started(study: ValidatedStudy, events: Broadcast, most: int | None = None) -> Iterator[Cluster]:
    """The cluster; an autoscaler is asked for `most` places. Starting Ray takes seconds, waiting for nodes minutes."""
    with ExitStack() as stack:
        with events.phase(PhaseStart(phase="start-up")):
            job = job_metadata(study.config)
            cluster = stack.enter_context(running(study.config.cluster, events.on_message, most, job))
        yield cluster


def _prepared(study: ValidatedStudy, cluster: Cluster, objective: Objective, events: Broadcast) -> StudyContext:
    """Prepare the data, which may take minutes; that the cluster is too small or refuses its token shows before."""
    asked = study.config.base.prepare
    events.on_message(f"preparing {asked.dataset or 'simulated operators'}")
    began = time.monotonic()
    if asked.dataset is None:
        with events.phase(PhaseStart(phase="simulation", total=asked.simulator.samples, unit="operators")):
            cached_dataset(asked.simulator, events.on_phase_progress)
    with events.phase(PhaseStart(phase="preparation")):
        data = prepare(asked)
        seconds = time.monotonic() - began
        study.check_data(data)
        rows, features = data.values.shape
        events.on_message(f"  {rows} rows, {features} features in {len(data.categories)} categories")
        warm_up(study.config.base, events.on_message)
    return StudyContext(
        config=study.config,
        space=study.space,
        folder=study.folder,
        data=data,
        cluster=cluster,
        objective=objective,
        events=events,
        health=DeviceHealth(gpus_by_node, study.folder.device_faults),
        sampler=study.sampler,
        identity=study.identity(data),
        prepare_seconds=seconds,
    )


@contextmanager
def _described(study: ValidatedStudy, context: StudyContext) -> Iterator[None]:
    """Write study.yaml: from here on the study is there and can be resumed. Write it again if it goes meanwhile."""
    folder = study.folder
    if study.resume:
        content = continued(folder.read_description(), context.config)
    else:
        folder.write_prepared(context.data)
        content = describe(context.config, study.space, context.data, context.cluster)
    folder.write_description(content)
    try:
        yield
    finally:
        with suppress(OSError):  # a full disk, or no folder any more, which another error says
            if folder.prepared.exists() and not folder.description.exists():
                folder.write_description(content)
                context.events.on_message(f"{folder.description} had gone while the study ran; it was written again")


@contextmanager
def _end_told(events: Broadcast) -> Iterator[None]:
    """Tell the monitors how the study ended."""
    ending: Ending = "failed"
    try:
        yield
        ending = "finished"
    except KeyboardInterrupt:
        ending = "interrupted"
        raise
    finally:
        events.on_study_end(ending)


def _greet(context: StudyContext) -> None:
    """Say how many trials run at a time, with what, and where to watch them."""
    resources, members = context.cluster.resources, context.members
    what = f"{resources.concurrent} {'workers' if members > 1 else 'trials'} at a time, {resources} each"
    together = f", {members} trials in lock step on each" if members > 1 else ""
    context.events.on_message(what + together)
    for shown, address in context.addresses.items():
        context.events.on_message(f"{shown}: {address}")


def _report(context: StudyContext) -> None:
    """Write the report and the diagnoses it leads to. A study whose trials are kept does not fail for want of them."""
    try:
        study = read_study(context.folder)
        for problem in write_diagnoses(study):
            context.events.on_message(problem)
        write_report(context.folder.report, study)
    except (OSError, SpinlockError) as error:
        context.events.on_message(f"no report was written: {error}")
