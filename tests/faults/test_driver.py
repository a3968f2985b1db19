"""The driver killed with SIGKILL at 20 random moments, stopped by signals or with its Ray: it ends as undisturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.records.optuna_trials import read_journal
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from tests.faults.conftest import Ledger
from tests.faults.launched import DEADLINE, Launcher, launcher, outcome, size, story

KILLS = int(os.environ.get("KILLS", "20"))  # fewer for a first look
TRIALS = 2 * KILLS


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory, dataset: Path, repository: Path) -> Iterator[Launcher]:
    with launcher(tmp_path_factory.mktemp("driver"), dataset, repository, TRIALS) as launch:
        yield launch


@pytest.fixture(scope="module")
def undisturbed(launch: Launcher) -> tuple[list[TrialRecord], StudyFolder]:
    launched = launch("undisturbed")
    return launched.ends(), launched.study


def test_a_driver_killed_at_20_random_moments_loses_and_changes_nothing(
    launch: Launcher, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger
) -> None:
    expected, whole = undisturbed
    assert {record.state for record in expected} >= {"complete", "pruned"}
    written, rng = size(whole.journal), random.Random(0)
    moments, launched = [], launch("killed")
    for kill in range(KILLS):
        if kill:
            launched = launch("killed", *(["--resume"] if launched.study.description.exists() else []))
        before, began = size(launched.study.journal), time.monotonic()
        if rng.random() < 0.25:  # at any time, before the search has begun too
            moment = rng.uniform(0.2, 15)
            launched.wait_for(lambda: time.monotonic() - began > moment)  # noqa: B023
        else:  # after any write, of the search or its end
            growth = rng.uniform(0, 1.5 * written / KILLS)
            launched.wait_for(lambda: size(launched.study.journal) - before >= growth)  # noqa: B023
        launched.process.kill()
        launched.process.wait()
        moments.append(len(outcome(launched.study)) if launched.study.journal.exists() else 0)
    assert moments == sorted(moments)
    assert 0 < moments[-1] < TRIALS, f"trials done at each kill: {moments}"

    found = launch("killed", "--resume").ends()
    assert [record.number for record in found] == [record.number for record in expected]
    assert found == expected
    verdicts = [json.loads(folder.verdict.read_text()) for folder in (whole, launched.study)]
    assert verdicts[0] == verdicts[1]
    ledger.enter(
        f"driver killed {KILLS} times", "at random moments", "same trials as undisturbed", story(launched.study), TRIALS
    )


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_driver_that_is_stopped_says_how_to_go_on(
    launch: Launcher, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger, stop: signal.Signals
) -> None:
    launched = launch(stop.name)
    launched.wait_for(lambda: size(launched.study.journal) > size(undisturbed[1].journal) / 3)
    if stop == signal.SIGINT:
        os.killpg(launched.process.pid, stop)  # as a terminal does
    else:
        launched.process.send_signal(stop)
    assert launched.process.wait(DEADLINE) == 130
    assert f"--resume --name {stop.name}" in launched.printed
    assert "Traceback" not in launched.printed
    states = {trial.state.name for trial in read_journal(launched.study.journal).trials}
    assert "RUNNING" not in states
    assert launch(stop.name, "--resume").ends() == undisturbed[0]
    ledger.enter(stop.name, "a third through", "same trials as undisturbed", story(launched.study), TRIALS)


@pytest.mark.parametrize(("part", "named"), [("gcs_server", "control process"), ("raylet", "node manager")])
def test_a_driver_whose_ray_dies_says_so_and_goes_on(
    launch: Launcher, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger, part: str, named: str
) -> None:
    launched = launch(part)
    launched.wait_for(lambda: size(launched.study.journal) > size(undisturbed[1].journal) / 3)
    [found] = [pid for title, pid in launched.processes("").items() if Path(title.split()[0]).name == part]
    os.kill(found, signal.SIGKILL)
    assert launched.process.wait(DEADLINE) == 1
    assert named in launched.error and "--resume" in launched.error
    assert launch(part, "--resume").ends() == undisturbed[0]
    ledger.enter(f"{part} killed", "a third through", "same trials as undisturbed", story(launched.study), TRIALS)


def test_a_driver_that_is_stopped_and_continued_loses_nothing(
    launch: Launcher, undisturbed: tuple[list[TrialRecord], StudyFolder], ledger: Ledger
) -> None:
    launched = launch("SIGSTOP")
    launched.wait_for(lambda: size(launched.study.journal) > size(undisturbed[1].journal) / 3)
    launched.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    launched.process.send_signal(signal.SIGCONT)
    assert launched.ends() == undisturbed[0]
    ledger.enter("SIGSTOP, SIGCONT", "a third through", "same trials as undisturbed", undisturbed[0], TRIALS)
