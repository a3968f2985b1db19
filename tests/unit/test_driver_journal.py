"""The journal as a driver writes it: Optuna reads from it what the driver knows, whatever befell."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from results.records.journal import JournalReader
from results.records.optuna_trials import read_journal
from spinlock_dist.errors import SpinlockError
from study.search.driver_journal import together
from study.search.optuna_internals import wait_again
from study.search.storage import open_journal

OPEN = (TrialState.WAITING, TrialState.RUNNING)
STEPS = ("ask", "suggest", "attribute", "constraint", "report", "tell", "enqueue", "add", "again", "open", "close")
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), min_size=1, max_size=40)


class Doing:
    """Does to a study what a driver may do, in any order, in blocks within blocks."""

    def __init__(self, study: optuna.Study):
        self.study = study
        self.running: list[optuna.Trial] = []
        self.blocks = ExitStack()
        self.count = 0

    def do(self, step: str, number: int) -> None:
        self.count += 1
        if step == "ask":
            self.running.append(self.study.ask())
        elif step == "enqueue":
            self.study.enqueue_trial({"x": number / 10})
        elif step == "add":
            self.study.add_trial(optuna.create_trial(value=1.0, user_attrs={"added": number}))
        elif step == "open":
            self.blocks.enter_context(together(self.study, sync=number > 5))
        elif step == "close":
            self.blocks.close()
        elif self.running:
            self.to(self.running[number % len(self.running)], step, number)

    def to(self, trial: optuna.Trial, step: str, number: int) -> None:
        if step == "suggest":
            trial.suggest_float("x", 0, 1)
            trial.suggest_categorical("y", ("a", None, 2))
        elif step == "attribute":
            trial.set_user_attr(f"name {number}", {"count": self.count, "list": [1.5, None, "ä\n"]})
        elif step == "constraint" and not trial._get_latest_trial().constraints:
            trial.set_constraint("guard", number)
        elif step == "report":
            trial.report(number, self.count)
        elif step in ("tell", "again"):
            self.running.remove(trial)
            if step == "tell":
                self.study.tell(trial, number)
            else:
                wait_again(self.study, trial._get_latest_trial())


def stored(path: Path) -> tuple[list[FrozenTrial], dict[str, Any]]:
    """What Optuna itself reads from a journal."""
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    return study.get_trials(deepcopy=False), study.user_attrs


@contextmanager
def done(path: Path, what: list[tuple[str, int]]) -> Iterator[optuna.Study]:
    study = open_journal(path, "s")
    doing = Doing(study)
    with doing.blocks:
        for step, number in what:
            doing.do(step, number)
    yield study


@settings(deadline=None)
@given(steps)
def test_optuna_reads_what_the_driver_knows(tmp_path_factory, what):
    path = tmp_path_factory.mktemp("any") / "optuna.journal"
    with done(path, what) as study:
        trials, attributes = stored(path)
        assert trials == study.get_trials(deepcopy=False)
        assert attributes == study.user_attrs
        for states in (OPEN, OPEN[:1], OPEN[1:], (*OPEN, TrialState.COMPLETE)):
            found = study.get_trials(deepcopy=False, states=states)
            assert found == [trial for trial in trials if trial.state in states]
        assert open_journal(path, "s").get_trials(deepcopy=False) == trials


@settings(deadline=None)
@given(steps, st.lists(st.floats(0, 1), max_size=5))
def test_a_reader_that_follows_knows_what_one_that_comes_later_knows(tmp_path_factory, what, shares):
    """Also where it looks while a line is half written. Times in a journal change its length from run to run."""
    path = tmp_path_factory.mktemp("any") / "optuna.journal"
    with done(path, what):
        whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    moments = [first + int(share * (len(whole) - first)) for share in sorted(shares)]
    path.write_bytes(whole[:first])
    study = read_journal(path)
    for moment in (*moments, len(whole)):
        path.write_bytes(whole[:moment])
        assert len(study.get_trials(deepcopy=False)) <= len(stored(path)[0]) + 1
    assert study.get_trials(deepcopy=False) == stored(path)[0]


def test_what_belongs_together_is_few_lines(tmp_path):
    path = tmp_path / "optuna.journal"
    study = open_journal(path, "s")
    before = path.read_bytes().count(b"\n")
    with together(study):
        trials = [study.ask(), study.ask()]
        for trial in trials:
            trial.suggest_float("x", 0, 1)
            trial.suggest_float("y", 0, 1)
            trial.set_user_attr("a", trial.number)
        assert path.read_bytes().count(b"\n") == before
    assert path.read_bytes().count(b"\n") == before + 2
    assert [sorted(trial.params) for trial in stored(path)[0]] == [["x", "y"]] * 2


def too_large(path: Path, more: int, act: Callable[[], Any]) -> None:
    """Hold that `act` fails where the journal can grow by so many bytes only, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_could_not_be_written_is_written_before_what_comes_later(tmp_path):
    path = tmp_path / "optuna.journal"
    study = open_journal(path, "s")
    before = path.read_bytes()

    def ask() -> None:
        with together(study):
            study.ask().set_user_attr("long", "x" * 1000)

    too_large(path, 100, ask)
    assert path.read_bytes() == before
    too_large(path, 100, lambda: study.set_user_attr("not", "known"))
    study.ask().set_user_attr("short", "y")
    trials, attributes = stored(path)
    assert [trial.user_attrs for trial in trials] == [{"long": "x" * 1000}, {"short": "y"}]
    assert trials == study.get_trials(deepcopy=False)
    assert attributes == study.user_attrs == {}


def test_what_another_process_writes_is_read(tmp_path):
    """A plain Optuna dashboard, for one, which keeps its notes there."""
    path = tmp_path / "optuna.journal"
    study = open_journal(path, "s")
    other = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    study.ask()
    other.set_user_attr("note", "text")
    study.ask()
    other.ask()
    assert study.user_attrs == {"note": "text"}
    assert study.get_trials(deepcopy=False) == stored(path)[0]

    def ask() -> None:
        with together(study):
            study.ask()
            other.ask()

    with pytest.raises(SpinlockError, match="another process wrote into it"):
        ask()


@pytest.mark.parametrize("entry", [[], 1, {}, {"op_code": 99}])
def test_what_is_no_entry_is_refused(tmp_path, entry):
    path = tmp_path / "optuna.journal"
    open_journal(path, "s").ask()
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with pytest.raises(SpinlockError, match=r"cannot be read|damaged"):
        read_journal(path)


def test_a_reader_refuses_to_write(tmp_path):
    path = tmp_path / "optuna.journal"
    open_journal(path, "s")
    with pytest.raises(PermissionError, match="only a study's driver"):
        JournalStorage(JournalReader(path)).set_study_user_attr(0, "a", 1)


def test_a_journal_of_several_studies_is_read_as_optuna_reads_it(tmp_path):
    path = tmp_path / "optuna.journal"
    storage = JournalStorage(JournalFileBackend(str(path)))
    for name in ("s", "t"):
        study = optuna.create_study(study_name=name, storage=storage)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    found = optuna.load_study(study_name="t", storage=JournalStorage(JournalReader(path)))
    assert found.trials == study.trials
    optuna.delete_study(study_name="s", storage=storage)
    assert read_journal(path).trials == study.trials


DRIVER = """
import sys
from pathlib import Path
from study.search.driver_journal import together
from study.search.storage import open_journal
study = open_journal(Path(sys.argv[1]), "s")
while True:
    with together(study, sync=False):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
    with together(study):
        trial.set_constraint("guard", -1.0)
        trial.set_user_attr("outcome", {"state": "complete", "seed": 0})
    print(trial.number, flush=True)
    study.tell(trial, 1.0)
"""


def test_a_killed_driver_loses_nothing_that_it_said(tmp_path):
    path, said = tmp_path / "optuna.journal", list[int]()
    for most in (1, 40, 300):
        with subprocess.Popen([sys.executable, "-c", DRIVER, str(path)], stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            said += [int(driver.stdout.readline()) for _ in range(most)]
            driver.kill()
            said += [int(line) for line in driver.stdout]
        found = open_journal(path, "s").get_trials(deepcopy=False)
        assert {trial.number for trial in found if "outcome" in trial.user_attrs} >= set(said)
        assert all(trial.constraints == {"guard": -1.0} for trial in found if "outcome" in trial.user_attrs)
        assert stored(path)[0] == found
    assert len(said) >= 341


def test_trials_share_the_ranges_of_their_parameters(tmp_path):
    """Those of a driver, and of whoever reads its journal."""
    path = tmp_path / "optuna.journal"
    study = open_journal(path, "s")
    for _ in range(2):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("y", ("a", "b"))
    for trials in (study.get_trials(deepcopy=False), read_journal(path).get_trials(deepcopy=False)):
        one, other = (trial.distributions for trial in trials)
        assert all(one[name] is other[name] for name in ("x", "y"))
