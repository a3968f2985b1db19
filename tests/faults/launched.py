"""Studies that processes of their own run, to be disturbed: each is a session, so nothing else is ever hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from results.records.optuna_trials import read_journal, read_search
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord

T = TypeVar("T")

DEADLINE = 600

STUDY = """
space: quick
trials: {trials}
deterministic: true
baseline_seeds: 1
base:
  prepare: {{dataset: {dataset}}}
  training: {{epochs: 40, evaluate_every: 4, batch_size: 64}}
stopping: {{grace: 2}}
finals: {{replicates: 2, seeds: 1}}
guards: {{utilization: 0, perplexity_ratio: 0}}
cluster: {{gpus: 0, max_concurrent: 2, snapshot_seconds: 0.2, dashboard: false}}
"""


@dataclass
class Launched:
    """A study that runs."""

    process: subprocess.Popen
    study: StudyFolder
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    @property
    def error(self) -> str:
        """The one line that says why it ended."""
        [said] = [line for line in self.printed.splitlines() if line.startswith("error: ")]
        return said

    def wait_for(self, happened: Callable[[], T]) -> T:
        """Wait until something has happened, while the study runs, and return it."""
        deadline = time.monotonic() + DEADLINE
        while not (found := happened()):
            assert self.process.poll() is None, "it ended too early:\n" + self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.01)
        return found

    def fails(self, code: int = 1) -> str:
        """Wait for its end, hold that it is a line without a traceback, and return that line."""
        assert self.process.wait(DEADLINE) == code, self.printed
        assert "Traceback" not in self.printed, self.printed
        return self.error

    def ends(self) -> list[TrialRecord]:
        """Wait for its end, and return what it found."""
        assert self.process.wait(DEADLINE) == 0, self.printed
        return outcome(self.study)

    def processes(self, title: str) -> dict[str, int]:
        """The ids of its processes whose title begins so, children of children too, by title."""
        table = subprocess.run(
            ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(None, 2) for line in table.splitlines()]
        family = {self.process.pid}
        for _ in range(4):  # driver, raylet, worker
            family |= {int(pid) for pid, parent, *_ in rows if int(parent) in family}
        return {row[2]: int(row[0]) for row in rows if int(row[0]) in family and row[2:3] and row[2].startswith(title)}


@dataclass
class Launcher:
    """Starts studies of one config in a folder."""

    folder: Path
    dataset: Path
    repository: Path
    trials: int
    started: list[Launched] = field(default_factory=list)

    def __call__(
        self,
        name: str,
        *more: str,
        within: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        runs: Path | None = None,
    ) -> Launched:
        """Start a study `name` as a session of its own; `within` is a command that runs it."""
        (self.folder / "study.yaml").write_text(STUDY.format(trials=self.trials, dataset=self.dataset))
        runs = runs or self.folder / "runs"
        command = [sys.executable, "-m", "study.launch", "--config", "study.yaml", "--runs", str(runs)]
        output = self.folder / f"{name}-{len(self.started)}.txt"
        with output.open("w") as file:
            process = subprocess.Popen(
                [*within, *command, "--name", name, *more],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(self.repository), **(env or {})},
                start_new_session=True,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.started.append(Launched(process, StudyFolder(runs / name), output))
        return self.started[-1]


@contextmanager
def launcher(folder: Path, dataset: Path, repository: Path, trials: int) -> Iterator[Launcher]:
    """Yield a launcher; what still runs of its studies is killed at the end."""
    launch = Launcher(folder, dataset, repository, trials)
    yield launch
    for launched in launch.started:
        if launched.process.poll() is None:
            os.killpg(launched.process.pid, signal.SIGKILL)
            launched.process.wait()


def outcome(folder: StudyFolder) -> list[TrialRecord]:
    """What a search found, without how long it took, where, and the story of how it got there."""
    records = read_search(read_journal(folder.journal))
    timeless = [[{**row, "seconds": 0.0} for row in record.curve] for record in records]
    return [
        replace(record, curve=curve, seconds=0.0, attempts=[], checkpoint="")
        for record, curve in zip(records, timeless, strict=True)
    ]


def story(folder: StudyFolder) -> list[TrialRecord]:
    """What a search found, with its story."""
    return read_search(read_journal(folder.journal))


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
