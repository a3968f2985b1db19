"""A study as it stands, finished, interrupted or running.

Damaged or missing files are listed in `problems`; everything else is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from results.records.device_faults import DeviceFaultRecord, read_faults
from results.records.effect import Effect, stored_effects
from results.records.settings import TrialSettings
from results.records.stage import phase_of, study_in_words
from results.records.standing import standing_of
from results.records.stored_tables import read_tables
from results.records.study_folder import FORMAT, StudyFolder
from results.records.trial_record import BASELINE, TrialRecord, best_record, full_arm, read_records
from search_spaces import SearchSpace
from search_spaces.space import space_of
from spinlock_dist.atomic_files import read_json
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import SpinlockError

T = TypeVar("T")


@dataclass(kw_only=True, eq=False)
class StudyRecord:
    """What is known of one study."""

    folder: StudyFolder
    description: dict[str, Any]
    """Content of study.yaml."""
    records: list[TrialRecord] = field(default_factory=list)
    """Of all phases."""
    running: list[str] = field(default_factory=list)
    """Unfinished trials of the search, e.g. `trial-7`: running, or waiting for the study to resume."""
    verdict: dict[str, Any] | None = None
    """Content of verdict.json; None while there is none."""
    effects: dict[str, dict[str, Effect]] = field(default_factory=dict)
    """Of the verdict, by finalist and figure."""
    standings: list[dict[str, Any]] = field(default_factory=list)
    """Content of tournament.json."""
    prepared: dict[str, Any] = field(default_factory=dict)
    """Content of prepared/summary.json: fingerprint, rows of each split, characteristics of each category."""
    device_faults: list[DeviceFaultRecord] = field(default_factory=list)
    """Of the devices that failed under its trainings, in order."""
    problems: list[str] = field(default_factory=list)
    """Damaged or missing files, a line each."""

    def __repr__(self) -> str:
        return f"<study {self.name}, {self.state}: {len(self.records)} trainings, {len(self.search)} of the search>"

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.folder.name

    def phase(self, name: str) -> list[TrialRecord]:
        """The records of a phase."""
        return [record for record in self.records if record.phase == name]

    @property
    def search(self) -> list[TrialRecord]:
        """The finished trials of the search."""
        return self.phase("search")

    @property
    def baseline(self) -> TrialRecord | None:
        """The training of the uniform baseline that trials are compared with."""
        return next(iter(self.phase("baseline")), None)

    @property
    def best(self) -> TrialRecord | None:
        """What was exported, mostly a trial of the search; else the feasible trial of lowest imbalance."""
        exported = self.verdict.get("exported") if self.verdict else None
        candidates = [*self.search, *self.phase("verification")]
        return next((each for each in candidates if each.arm == exported), best_record(self.search))

    @property
    def features(self) -> dict[str, int]:
        """Number of features of each category; empty if the summary of the data is missing."""
        found = self.prepared.get("characteristics") or {}
        return {category: scores["features"] for category, scores in found.items()}

    @property
    def scales(self) -> dict[str, float]:
        """Mean variance of each category's features, in squared raw units; empty in studies of earlier versions."""
        found = self.prepared.get("characteristics") or {}
        return {name: each["mean_variance"] for name, each in found.items() if each.get("mean_variance")}

    @cached_property
    def categories(self) -> dict[str, list[str]]:
        """The features of each category, `family::name`; empty if categories.json is missing or damaged."""
        found = _read(
            self, self.folder.categories.exists(), lambda: _mapping(self.folder.categories), "categories.json"
        )
        return found or {}

    @property
    def fingerprint(self) -> str:
        """Digest of the data, split and categories of every trial."""
        return str(self.description["fingerprint"])

    @property
    def state(self) -> str:
        """`finished`, `running`, or `interrupted` before its verdict."""
        return "running" if self.folder.is_running else "finished" if self.verdict else "interrupted"

    @property
    def stands(self) -> str:
        """Where it stands, in words: `finished`, or e.g. `running, search`."""
        if self.state == "finished":
            return self.state
        phase = _read(self, True, lambda: phase_of(self.folder), "its phase")
        return study_in_words(self.state, phase) if phase else self.state

    @property
    def so_far(self) -> str:
        """` yet` while a study may still go on, nothing once it has ended: what it lacks it will not have."""
        return "" if self.state == "finished" else " yet"

    @cached_property
    def settings(self) -> TrialSettings:
        """The settings of the trials; only the searched ones if study.yaml does not say what the trials share."""
        try:
            return TrialSettings.of(self.base())
        except SpinlockError:
            return TrialSettings({})

    def space(self) -> SearchSpace:
        """The search space as the study began. Raises `SpinlockError` if study.yaml does not hold it."""
        try:
            return space_of(self.description["space"], str(self.description["config"]["space"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SpinlockError(
                f"{self.folder.description}: the search space cannot be read: {_in_a_line(error)}"
            ) from None

    def base(self) -> TrialConfig:
        """The config that all trials vary, with the fixed settings. Raises `SpinlockError` likewise."""
        try:
            base = TrialConfig.model_validate(self.description["config"]["base"])
        except (KeyError, TypeError, ValueError) as error:
            raise SpinlockError(f"{self.folder.description}: the config cannot be read: {_in_a_line(error)}") from None
        return self.space().to_config(base, {})

    def config(self, record: TrialRecord | None = None) -> TrialConfig:
        """The config of a trial; of the uniform baseline if none is given. Raises `SpinlockError` likewise."""
        if record is None:
            return self.base().with_overrides({"compression.strategy": "uniform"})
        if record.phase == "verification":  # plain `feedback` need not be in the space
            return self.base().with_overrides(record.params)
        return self.space().to_config(self.base(), record.params)


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def read_study(folder: StudyFolder, details: bool = True) -> StudyRecord:
    """Read a study; without `details` curves and codebooks may be left out, which is faster.

    Raises `ConfigError` if not even study.yaml can be read.
    """
    study = StudyRecord(folder=folder, description=folder.read_description())
    written = study.description.get("format", FORMAT)
    if written not in range(1, FORMAT + 1):
        study.problems.append(
            f"{folder.description}: format {written!r}, this version reads {FORMAT}: update spinlock-dist to see all"
        )
    study.records = _records(study, details)
    study.verdict = _read(study, folder.verdict.exists(), lambda: _mapping(folder.verdict), "verdict.json")
    study.effects = _read(study, True, lambda: stored_effects(study.verdict), "verdict.json") or {}
    study.prepared = _read(study, True, lambda: _mapping(folder.summary), "prepared/summary.json") or {}
    study.device_faults = _read(study, True, lambda: read_faults(folder.device_faults), "device_faults.json") or []
    study.standings = (
        _read(study, folder.tournament.exists(), lambda: _standings(folder.tournament), "tournament.json") or []
    )
    return study


def _records(study: StudyRecord, details: bool) -> list[TrialRecord]:
    """The records, from the tables if they are up to date, else from the journal and the files of each phase."""
    folder, stale = study.folder, None
    if folder.trials.exists():
        tables = _read(study, True, lambda: read_tables(folder, details), "trials.parquet, curves.parquet")
        if tables is not None and tables[1]:
            return tables[0]
        stale = tables[0] if tables else None
    where = "storage.json" if folder.elsewhere.exists() else "optuna.journal"
    searches = _read(study, bool(folder.searches), lambda: _from_searches(study), where)
    if searches is None and stale is not None:
        study.problems.append("the trials are those of trials.parquet, which may be older than the study")
        return stale
    phases = {name: folder.records(name) for name in (BASELINE, "final", "verification")}
    kept = {
        name: _read(study, path.exists(), lambda path=path: read_records(path), path.name) or []  # type: ignore[misc]
        for name, path in phases.items()
    }
    return [*kept[BASELINE], *(searches or []), *kept["final"], *kept["verification"]]


def _from_searches(study: StudyRecord) -> list[TrialRecord]:
    from results.records.optuna_trials import has_outcome, open_search, read_search, warm_records

    found = []
    for arm, folder in study.folder.searches.items():
        search = open_search(folder)
        found += warm_records(search)
        found += [replace(record, arm=full_arm(arm, record.arm)) for record in read_search(search)]
        study.running += [
            full_arm(arm, f"trial-{trial.number}")
            for trial in search.get_trials(deepcopy=False)
            if trial.state.name == "RUNNING" and not has_outcome(trial)
        ]
    return found


def _standings(path: Path) -> list[dict[str, Any]]:
    rows = read_json(path)
    return [row for row in rows if standing_of(row)]  # raises for one that is not a standing


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError("not a mapping")
    return content


def _read(study: StudyRecord, there: bool, read: Callable[[], T], what: str) -> T | None:
    """The result of `read`; None, and a line in `problems`, if it fails."""
    if not there:
        return None
    try:
        return read()
    except Exception as error:  # each reader fails on damage in its own way
        study.problems.append(f"{what}: cannot be read: {_in_a_line(error)}")
        return None
