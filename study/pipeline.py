"""A study from end to end: prepare, baseline, search, finals, export. A phase that is done is not run again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from rich.console import Console

from results.analysis.pareto import front
from results.analysis.tables import write_tables
from results.export.best_folder import export_config, export_readme, withdraw_export
from results.export.spinlock import export_spinlock
from results.records.standing import Standing
from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from results.records.trial_record import (
    BASELINE,
    Phase,
    TrialRecord,
    arm_of,
    feasible_records,
    full_arm,
    read_records,
    write_records,
)
from results.report.render import write_report
from results.verdict.standings import conclude_tournament, standings, write_standings
from results.verdict.verdict import Verdict, conclude, judge
from results.verdict.verification import Verification, verify
from search_spaces import SearchSpace, preset_names
from spinlock_dist.atomic_files import digest, write_json
from spinlock_dist.config import TrialConfig, load_config
from spinlock_dist.errors import SpinlockError
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_members
from study.cluster.ray_cluster import Cluster, preflight, running
from study.cluster.resources import members_per_worker
from study.cluster.shared_folder import check_lasting, check_storage
from study.config import StudyConfig
from study.monitor.tensorboard import check_tensorboard
from study.monitor.terminal import Progress, score
from study.phases.estimate import Forecast, fly, forecast
from study.phases.finals import REPLICATES, Finals
from study.phases.search import Search
from study.phases.tournament import arms
from study.provenance import begin, check_data, check_rerun, continued, describe, study_space
from study.samplers.registry import check_sampler
from study.search.stop_criteria import check_stop_criteria
from study.search.storage import resolved_url
from study.search.warm_start import (
    check_fingerprint,
    earlier_studies,
)
from study.worker.retry_policy import StudyError, storage_errors_explained
from study.worker.tasks import Training, Workers
from study.worker.trainable import Objective


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
    standings: tuple[Standing, ...]
    """With `tournament`, its arms in order; else none."""
    conclusion: str


def run(
    config: StudyConfig, *, resume: bool = False, objective: Objective = run_members, console: Console | None = None
) -> StudyResult:
    """Run a study, or with `resume` go on with it, and return what it found; everything is kept in its folder.

    Uses the Ray cluster this process is connected to, joins the one at `config.cluster.address`, or starts its own.
    Raises `ConfigError`, `DataError` or `ResourceError` for what cannot be run, `StudyError` if trial after trial
    fails, `KeyboardInterrupt` when interrupted; whatever had an outcome by then is kept.
    """
    space = study_space(config)
    config = _resolved(config)
    check_sampler(config, space)
    check_tensorboard(config)
    arms(config, space)
    preflight(config.cluster)
    check_lasting(Path(config.runs))
    folder = begin(config, space, resume)
    earlier = [] if resume else earlier_studies(config, space)  # refused before anything slow begins
    progress = Progress(console or Console(quiet=True))
    with folder.lock():
        data = _prepare(config, progress)
        check_fingerprint(earlier, data)
        if resume:
            check_data(folder, data)
        with running(config.cluster, progress.say) as cluster, storage_errors_explained(folder.path):
            check_storage(folder.path)
            if config.deterministic:
                config = config.model_copy(update={"batch": _batch(config, folder, resume, cluster)})
            check_stop_criteria(config.until, cluster.resources)
            if resume:
                folder.write_description(continued(folder.read_description(), config))
            else:
                folder.write_prepared(data)
                folder.write_description(describe(config, space, data, cluster))
            return _Study(config, space, folder, data, cluster, objective, progress).run()


def dry_run(config: StudyConfig, *, objective: Objective = run_members, console: Console | None = None) -> Forecast:
    """Return what a new study will cost. It refuses what `run` would, trains two epochs and leaves no folder."""
    space = study_space(config)
    config = _resolved(config)
    check_sampler(config, space)
    searches = len(arms(config, space))
    preflight(config.cluster)
    check_lasting(Path(config.runs))
    begin(config, space, resume=False)
    earlier = earlier_studies(config, space)
    progress = Progress(console or Console(quiet=True))
    began = time.monotonic()
    data = _prepare(config, progress)
    seconds = time.monotonic() - began
    check_fingerprint(earlier, data)
    base = space.to_config(config.base, {}).with_overrides({"compression.strategy": "uniform"})
    with running(config.cluster, progress.say) as cluster:
        check_stop_criteria(config.until, cluster.resources)
        members = members_per_worker(config.cluster, cluster.resources, config.trials)
        pilots = {count: fly(base, count, data, objective, cluster.resources) for count in {1, members}}
        return forecast(config, base.training.epochs, cluster.resources, pilots, seconds, searches)


def _resolved(config: StudyConfig) -> StudyConfig:
    """Return `config` with paths that mean the same from every folder, and no GPU for trials that are told `cpu`.

    Raises `ConfigError` if the storage it names cannot be used.
    """
    prepare = config.base.prepare
    categories = prepare.categories.model_copy(update={"mapping": _absolute(prepare.categories.mapping)})
    prepare = prepare.model_copy(update={"dataset": _absolute(prepare.dataset), "categories": categories})
    cluster = config.cluster
    if config.base.training.device == "cpu" and cluster.gpus is None:
        cluster = cluster.model_copy(update={"gpus": 0})
    base = config.base.model_copy(update={"prepare": prepare})
    space = config.space if config.space in preset_names() else str(_absolute(config.space))
    runs = str(Path(config.runs).resolve())
    known = {"base": base, "cluster": cluster, "space": space, "runs": runs, "storage": resolved_url(config.storage)}
    return config.model_copy(update=known)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _batch(config: StudyConfig, folder: StudyFolder, resume: bool, cluster: Cluster) -> int:
    """Return the trials of a batch: as it was started, wherever the study goes on."""
    stored = folder.read_description()["config"]["batch"] if resume else None
    resources = cluster.resources
    return stored or config.batch or resources.concurrent * members_per_worker(config.cluster, resources, config.trials)


def _prepare(config: StudyConfig, progress: Progress) -> PreparedData:
    progress.say(f"preparing {config.base.prepare.dataset or 'simulated operators'}")
    data = prepare(config.base.prepare)
    check_rerun(config, data)
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
        self.workers = Workers(cluster.resources, objective, folder.snapshots, config.cluster.snapshot_seconds)
        self.progress = progress
        self.searches = {
            arm.name: Search(
                arm.config,
                arm.space,
                folder.arm(arm.name),
                data,
                cluster,
                objective,
                progress,
                self.addresses(),
                arm.enqueue_initial,
            )
            for arm in arms(config, space)
        }
        """By arm of the tournament; without one there is one search, called by the empty string."""

    def run(self) -> StudyResult:
        """Run what is not done yet."""
        resources = self.cluster.resources
        members = max(search.members for search in self.searches.values())
        together = f", {members} trials in lock step on each" if members > 1 else ""
        self.progress.say(
            f"{resources.concurrent} {'workers' if together else 'trials'} at a time, {resources} each{together}"
        )
        for what, address in self.addresses().items():
            self.progress.say(f"{what}: {address}")
        baseline = self.baseline()
        found = self.search(baseline)
        search = [record for records in found.values() for record in records]
        finals = self.finals(found)
        verdict = judge(finals, REPLICATES[self.config.finals.data], self.overlap())
        chosen = next((each for each in verdict.in_order if self.has_checkpoint(each.arm, search)), None)
        best = next((record for record in search if chosen and record.arm == chosen.arm), None)
        rows = self.standings(found, verdict)
        conclusion = conclude_tournament(rows, verdict) if rows else conclude(baseline[0], search, verdict)
        if best is None or chosen is None:
            withdraw_export(self.folder)
            write_json(self.folder.verdict, verdict.to_json() | {"conclusion": conclusion})
        else:
            self.mend_checkpoint(best)
            exported = export_config(self.folder.best, self.trial(best), self.checkpoint(best))
            self.export_spinlock(best)
            verification = self.verify(best, baseline, exported)
            conclusion = f"{conclusion} {verification}"
            told = {"exported": best.arm, "verification": verification.to_json(), "conclusion": conclusion}
            write_json(self.folder.verdict, verdict.to_json() | told)
            export_readme(self.folder, best, baseline[0], chosen, conclusion)
        warm = [record for each in self.searches.values() for record in each.warm]
        write_tables(self.folder, [*baseline, *warm, *search, *finals])
        self.report()
        return StudyResult(
            folder=self.folder,
            baseline=tuple(baseline),
            search=tuple(search),
            ended="; ".join(f"{name}: {each.reason}" if name else each.reason for name, each in self.searches.items()),
            finals=tuple(finals),
            best=best,
            front=tuple(front(search)) if self.config.objective == "pareto" else (),
            verdict=verdict,
            standings=tuple(rows),
            conclusion=conclusion,
        )

    def report(self) -> None:
        """Write the report. A study whose trials are all kept does not fail for want of it."""
        try:
            write_report(self.folder.report, read_study(self.folder))
        except (OSError, SpinlockError) as error:
            self.progress.say(f"no report was written: {error}")

    def addresses(self) -> dict[str, str]:
        """Return where a study can be watched beside the terminal, by what is shown there."""
        runs = "" if self.folder.path.parent == Path("runs").resolve() else f" --runs {self.folder.path.parent}"
        own = {"Optuna dashboard (trials, curves)": f"python -m study.dashboard {self.config.name}{runs}"}
        own |= {"TensorBoard": f"tensorboard --logdir {self.folder.tensorboard}"} if self.config.tensorboard else {}
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

    # ------------------------------------------------------------ finals

    def search(self, baseline: Sequence[TrialRecord]) -> dict[str, list[TrialRecord]]:
        """Run what is missing of the searches and return the records of each, with arms that tell them apart."""
        found = {}
        for name, search in self.searches.items():
            if name:
                self.progress.say(f"tournament: {name}")
            found[name] = [replace(record, arm=full_arm(name, record.arm)) for record in search.run(baseline)]
        return found

    def finals(self, found: Mapping[str, Sequence[TrialRecord]]) -> list[TrialRecord]:
        """Train the finalists, in a tournament the best of each arm, and the baseline on the replicates."""
        top = 1 if self.config.tournament else self.config.finals.top
        finalists = [record for records in found.values() for record in feasible_records(records)[:top]]
        if not finalists:
            return []
        finals = Finals(self.config, self.folder, self.data, self.workers, self.progress.say)
        return finals.run({BASELINE: self.uniform(), **{record.arm: self.trial(record) for record in finalists}})

    def overlap(self) -> float:
        """Return test rows / training rows where all replicates split the same rows, else 0."""
        split = self.config.base.prepare.split
        return split.test / split.train if self.config.finals.data == "splits" else 0.0

    def standings(self, found: Mapping[str, Sequence[TrialRecord]], verdict: Verdict) -> list[Standing]:
        """Put the arms of a tournament in order and keep that."""
        if not self.config.tournament:
            return []
        rows = standings(found, verdict)
        write_standings(self.folder, rows)
        return rows

    def trial(self, record: TrialRecord) -> TrialConfig:
        """Return the config of a trial of a search."""
        return self.space.to_config(self.config.base, record.params)

    def has_checkpoint(self, arm: str, search: Sequence[TrialRecord]) -> bool:
        """Return whether a finalist can be exported: one that an extended search has overtaken may have lost it."""
        return any(record.arm == arm and self.checkpoint(record).exists() for record in search)

    def checkpoint(self, record: TrialRecord) -> Path:
        """Return the checkpoint of a trial of a search."""
        return self.folder.arm(arm_of(record.arm)).checkpoint(record.number)

    def mend_checkpoint(self, best: TrialRecord) -> None:
        """Train the best trial again if its checkpoint is not what was written."""
        path = self.checkpoint(best)
        if digest(path) != best.checkpoint:
            self.progress.say(f"{path} is damaged: trial {best.number} is trained again")
            config, data = self.trial(best), ray.put(self.data)
            again = Training(
                phase="search", arm=best.arm, number=best.number, config=config, data=data, checkpoint=path
            )
            list(self.workers.run([again]))

    def export_spinlock(self, best: TrialRecord) -> None:
        """Write the best config as Spinlock reads it; without that a study is still whole."""
        try:
            export_spinlock(self.folder, best, self.trial(best), self.folder.best / "spinlock.yaml")
        except SpinlockError as error:
            self.progress.say(f"not exported for Spinlock: {error}")

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
