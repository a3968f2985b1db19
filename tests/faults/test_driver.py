"""The driver killed with SIGKILL at 20 random moments, stopped by signals or with its Ray: it ends as undisturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from results.records.optuna_trials import read_journal, read_search
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from tests.faults.conftest import Ledger

KILLS = int(os.environ.get("KILLS", "20"))  # fewer for a first look
TRIALS = 2 * KILLS
DEADLINE = 600

STUDY = """
space: quick
trials: {trials}
deterministic: true
baseline_seeds: 1
base:
  prepare: {{dataset: {dataset}}}
  training: {{epochs: 40, evaluate_every: 4, batch_size: 64}}
stopping: {{grace: 8}}
finals: {{replicates: 2, seeds: 1}}
guards: {{utilization: 0, perplexity_ratio: 0}}
cluster: {{gpus: 0, max_concurrent: 2, snapshot_seconds: 0.2, dashboard: false}}
"""

Launch = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory, dataset: Path, repository: Path) -> Iterator[Launch]:
    """Return a function that starts a study of a name as a process group of its own."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "study.yaml").write_text(STUDY.format(trials=TRIALS, dataset=dataset))
    command = [sys.executable, "-m", "study.launch", "--config", "study.yaml", "--runs", str(folder / "runs")]
    started: list[subprocess.Popen] = []

    def start(name: str, *more: str) -> subprocess.Popen:
        output = (folder / f"{name}-{len(started)}.txt").open("w")
        process = subprocess.Popen(
            [*command, "--name", name, *more],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(repository)},
            start_new_session=True,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        process.study = StudyFolder(folder / "runs" / name)  # type: ignore[attr-defined]
        process.output = Path(output.name)  # type: ignore[attr-defined]
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def to_the_end(process) -> list[TrialRecord]:
    code = process.wait(DEADLINE)
    assert code == 0, process.output.read_text()
    return outcome(process.study)


def outcome(folder: StudyFolder) -> list[TrialRecord]:
    """Return what a search found, without how long it took and the story of how it got there."""
    records = read_search(read_journal(folder.journal))
    timeless = [[{**row, "seconds": 0.0} for row in record.curve] for record in records]
    return [
        replace(record, curve=curve, seconds=0.0, attempts=[], checkpoint="")
        for record, curve in zip(records, timeless, strict=True)
    ]


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_for(process, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not happened():
        assert process.poll() is None, "it ended too early:\n" + process.output.read_text()
        assert time.monotonic() < deadline, process.output.read_text()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(launch: Launch) -> tuple[list[TrialRecord], StudyFolder]:
    process = launch("undisturbed")
    return to_the_end(process), process.study


def test_a_driver_killed_at_20_random_moments_loses_and_changes_nothing(
    launch: Launch, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger
) -> None:
    expected, whole = undisturbed
    assert {record.state for record in expected} >= {"complete", "pruned"}
    written, rng = size(whole.journal), random.Random(0)
    moments, process = [], launch("killed")
    for kill in range(KILLS):
        if kill:
            process = launch("killed", *(["--resume"] if process.study.description.exists() else []))
        before, began = size(process.study.journal), time.monotonic()
        if rng.random() < 0.25:  # at any time, before the search has begun too
            moment = rng.uniform(0.2, 15)
            wait_for(process, lambda: time.monotonic() - began > moment)  # noqa: B023
        else:  # after any write, of the search or its end
            growth = rng.uniform(0, 1.5 * written / KILLS)
            wait_for(process, lambda: size(process.study.journal) - before >= growth)  # noqa: B023
        process.kill()
        process.wait()
        moments.append(len(outcome(process.study)) if process.study.journal.exists() else 0)
    assert moments == sorted(moments)
    assert 0 < moments[-1] < TRIALS, f"trials done at each kill: {moments}"

    found = to_the_end(launch("killed", "--resume"))
    assert [record.number for record in found] == [record.number for record in expected]
    assert found == expected
    verdicts = [json.loads(folder.verdict.read_text()) for folder in (whole, process.study)]
    assert verdicts[0] == verdicts[1]
    story = read_search(read_journal(process.study.journal))
    ledger.enter(f"driver killed {KILLS} times", "at random moments", "same trials as undisturbed", story, TRIALS)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_driver_that_is_stopped_says_how_to_go_on(
    launch: Launch, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger, stop: signal.Signals
) -> None:
    process = launch(stop.name)
    wait_for(process, lambda: size(process.study.journal) > size(undisturbed[1].journal) / 3)
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as a terminal does
    else:
        process.send_signal(stop)
    assert process.wait(60) == 130
    assert f"--resume --name {stop.name}" in process.output.read_text()
    assert "Traceback" not in process.output.read_text()
    states = {trial.state.name for trial in read_journal(process.study.journal).trials}
    assert "RUNNING" not in states
    assert to_the_end(launch(stop.name, "--resume")) == undisturbed[0]
    story = read_search(read_journal(process.study.journal))
    ledger.enter(stop.name, "a third through", "same trials as undisturbed", story, TRIALS)


@pytest.mark.parametrize(("part", "named"), [("gcs_server", "control process"), ("raylet", "node manager")])
def test_a_driver_whose_ray_dies_says_so_and_goes_on(
    launch: Launch, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger, part: str, named: str
) -> None:
    process = launch(part)
    wait_for(process, lambda: size(process.study.journal) > size(undisturbed[1].journal) / 3)
    children = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(process.pid)], capture_output=True, text=True)
    [child] = [line.split()[0] for line in children.stdout.splitlines() if line.split()[1] == part]
    os.kill(int(child), signal.SIGKILL)
    assert process.wait(60) == 1
    [said] = [line for line in process.output.read_text().splitlines() if line.startswith("error: ")]
    assert named in said and "--resume" in said
    assert to_the_end(launch(part, "--resume")) == undisturbed[0]
    story = read_search(read_journal(process.study.journal))
    ledger.enter(f"{part} killed", "a third through", "same trials as undisturbed", story, TRIALS)


def test_a_driver_that_is_stopped_and_continued_loses_nothing(
    launch: Launch, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger
) -> None:
    process = launch("SIGSTOP")
    wait_for(process, lambda: size(process.study.journal) > size(undisturbed[1].journal) / 3)
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    assert to_the_end(process) == undisturbed[0]
    ledger.enter("SIGSTOP, SIGCONT", "a third through", "same trials as undisturbed", undisturbed[0], TRIALS)
