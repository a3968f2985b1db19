"""Studies in an experiment tracker, on request: one run a training, and one for the study with its verdict and report.

A training is sent when it has its outcome, whole, from the record that the study keeps: a trial that was tried again
has one curve, and a driver that is killed leaves nothing that has to be taken back. What a tracker has not got, because
it was not asked for then, or the driver or the connection was lost, is sent later, at the latest when the study ends.

Trackers send over a network. That happens in a thread of its own, so that the search does not wait for it.
"""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from results.analysis.tables import figures
from results.records.settings import STRATEGY
from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import BASELINE, TrialRecord, full_arm, read_records
from spinlock_dist.atomic_files import read_json, write_json
from spinlock_dist.command import tool
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.live_settings import UNIFORM, is_live
from study.config import TRACKERS, StudyConfig
from study.events import Ending, PhaseStart, SearchStart, StudyEvents
from study.worker.actor import trial_name

STALLED_SECONDS = {"finished": 60.0, "interrupted": 10.0, "failed": 10.0}
"""How long the end of a study waits for a tracker that gets no further."""
SENT = ("baseline", "search", "final", "verification")
"""The phases that are sent: trials of earlier studies are theirs."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A training as trackers are told of it."""

    key: str
    """Unique within the study."""
    record: TrialRecord
    params: dict[str, Any]
    """Settings in which it differs from the study's base, by dotted name."""
    config: TrialConfig | None
    """All its settings; None of a trial that was refused for them."""

    @property
    def figures(self) -> dict[str, float]:
        """What it scored, by column of trials.parquet."""
        return figures(self.record)

    @property
    def labels(self) -> dict[str, Any]:
        """What it is and how it ended, by column of trials.parquet."""
        record = self.record
        plain = ("phase", "arm", "number", "state", "feasible", "kind", "reason", "seed", "epochs", "device", "model")
        known = {name: getattr(record, name) for name in (*plain, "broken_guards")} | {"attempts": len(record.attempts)}
        return {name: value for name, value in known.items() if value != ""}

    @property
    def has_failed(self) -> bool:
        """Whether it came to nothing: neither completed nor was stopped early."""
        return self.record.state not in ("complete", "pruned")


class Tracker(Protocol):
    """A connection to a tracker. Its methods are called one at a time, in one thread that is not the driver's."""

    def sent(self) -> set[str]:
        """Keys of the runs that it has, whole."""

    def send(self, run: TrackedRun) -> None:
        """Store a run, in the place of a part of it that may be there."""

    def close(self, study: StudyRecord, ending: Ending) -> None:
        """Store how the study stands; of a finished one the files that it ends with."""


@dataclass(frozen=True, kw_only=True)
class TrackerKind:
    """A tracker that can be asked for."""

    title: str
    """Its name, for people."""
    package: str
    """What it needs, by the name that is imported; the extra that installs it is named as the tracker."""
    address: Callable[[StudyFolder], str]
    """Where it keeps runs of a study, for people."""
    open: Callable[[StudyFolder, str], Tracker]
    """Connect for a study, which has a folder and an id."""
    check: Callable[[], None] = lambda: None
    """Raises `ConfigError` if it cannot be used as this machine is set up."""


def check_trackers(config: StudyConfig) -> None:
    """Raise `ConfigError` if a tracker is asked for that is not installed or not set up."""
    for name in config.track:
        if find_spec(TRACKERS[name].package) is None:
            raise ConfigError(
                f"--track {name}: the package {TRACKERS[name].package} is not installed: "
                f"{tool('pip')} install 'spinlock-dist[{name}]'"
            )
        TRACKERS[name].check()


def tracker_addresses(config: StudyConfig, folder: StudyFolder) -> dict[str, str]:
    """Where the trackers of a study keep it, by their titles."""
    return {TRACKERS[name].title: TRACKERS[name].address(folder) for name in config.track}


def final_files(study: StudyRecord) -> list[Path]:
    """What is attached to the study's run at its end, as far as it is there."""
    folder = study.folder
    files = [folder.description, folder.verdict, folder.report, folder.trials, folder.curves]
    files += [folder.diagnosis("best"), folder.diagnosis(BASELINE), folder.best / "config.yaml"]
    return [path for path in files if path.exists()]


class Tracking(StudyEvents):
    """Sends a study to one tracker."""

    def __init__(self, kind: TrackerKind):
        self._kind = kind
        self._study: StudyRecord | None = None
        self._sender = Sender()
        self._handed: set[str] = set()
        self._search = ""
        self._params: dict[str, dict[str, Any]] = {}
        """Searched settings of the trials of the search, by arm."""

    def on_study_start(self, folder: StudyFolder) -> None:
        """Connect."""
        self._study = StudyRecord(folder=folder, description=folder.read_description())
        study_id = tracking_id(folder)  # here: two trackers' threads would both make one
        self._sender.start(lambda: self._kind.open(folder, study_id))

    def on_search_start(self, search: SearchStart) -> None:
        """Know the earlier trials. Their records come without curves: what is missing of them is sent at the end."""
        assert self._study is not None
        is_only = search.folder.path == self._study.folder.path
        self._search = "" if is_only else search.folder.name
        for record in search.earlier:
            self._params[full_arm(self._search, record.arm)] = record.params

    def on_trial_end(self, record: TrialRecord) -> None:
        """Send a trial."""
        self._send(replace(record, arm=full_arm(self._search, record.arm)))

    def on_phase_start(self, start: PhaseStart) -> None:
        """Send what the phases before it have left."""
        if self._study is not None:
            for phase in (BASELINE, "final", "verification"):
                path = self._study.folder.records(phase)
                for record in read_records(path) if path.exists() else ():
                    self._send(record)

    def on_study_end(self, ending: Ending) -> None:
        """Send what is missing and how the study ended, and wait until it is there.

        Raises `TimeoutError` if the tracker gets no further.
        """
        if self._study is None:
            return
        study = read_study(self._study.folder)
        for record in study.records:
            if record.phase in SENT:
                self._send(record)
        self._sender.put(lambda tracker: tracker.close(study, ending))
        self._sender.finish(STALLED_SECONDS[ending])

    def _send(self, record: TrialRecord) -> None:
        if record.phase == "search":
            self._params[record.arm] = record.params
        key = run_key(record)
        if key not in self._handed:
            self._handed.add(key)
            run = self._run(key, record)
            self._sender.put(lambda tracker: tracker.send(run), key)

    def _run(self, key: str, record: TrialRecord) -> TrackedRun:
        assert self._study is not None
        params = params_of(record, self._params)
        try:
            config = self._study.base().with_overrides({**params, "seed": record.seed})
        except ConfigError:
            config = None
        return TrackedRun(key=key, record=record, params=params, config=config)


class Sender:
    """Does what it is given, one after another, in a thread of its own."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[str, Callable[[Tracker], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=lambda: None)
        self._error: Exception | None = None
        self._done = 0

    def start(self, connect: Callable[[], Tracker]) -> None:
        """Connect, and begin."""
        # A daemon: a connection that hangs must not keep the driver from ending.
        self._thread = threading.Thread(target=self._work, args=(connect,), name="tracking", daemon=True)
        self._thread.start()

    def put(self, task: Callable[[Tracker], None], key: str = "") -> None:
        """Have a task done, unless its key is that of a run which is there. Raises what an earlier one raised."""
        if self._error is not None:
            raise self._error
        self._tasks.put((key, task))

    def finish(self, stalled: float) -> None:
        """Wait until all is done. Raises what a task raised, and `TimeoutError` if none ends in `stalled` seconds."""
        self._tasks.put(None)
        while self._thread.is_alive():
            before = self._done
            self._thread.join(stalled)
            if self._thread.is_alive() and self._done == before:
                raise TimeoutError(f"nothing was taken in {stalled:g} s; what is missing is sent when it is resumed")
        if self._error is not None:
            raise self._error

    def _work(self, connect: Callable[[], Tracker]) -> None:
        try:
            tracker = connect()
            sent = tracker.sent()
            while (given := self._tasks.get()) is not None:
                key, task = given
                if key not in sent:
                    task(tracker)
                self._done += 1
        except Exception as error:  # a tracker raises what its parts raise; the driver's thread hears of it
            self._error = error


def tracking_id(folder: StudyFolder) -> str:
    """The id under which trackers know a study, made at the first use: its name may be that of another elsewhere."""
    path = folder.tracking
    if not path.exists():
        write_json(path, {"id": uuid.uuid4().hex})
    return str(read_json(path)["id"])


def run_key(record: TrialRecord) -> str:
    """A record's name among all of its study: `trial-0014`, `final-control-5-2`."""
    search, _, arm = record.arm.rpartition("/")
    name = trial_name(record.number) if record.phase == "search" else f"{record.phase}-{arm}-{record.number}"
    return f"{search}-{name}" if search else name


def params_of(record: TrialRecord, searched: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings in which a training differs from its study's base; `searched` are those of trials by arm.

    A control has uniform ratios, and of its trial's settings those that are read then.
    """
    search, _, name = record.arm.rpartition("/")
    kind, _, number = name.rpartition("-")
    if record.phase == "baseline" or name == BASELINE:
        return {STRATEGY: UNIFORM}
    if kind == "control":
        given = searched.get(full_arm(search, f"trial-{number}"), {}) | {STRATEGY: UNIFORM}
        return {name: value for name, value in given.items() if is_live(name, given.get)}
    if kind == "plain":
        return {STRATEGY: "feedback"}
    return record.params or searched.get(record.arm, {})
