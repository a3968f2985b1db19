"""The hand-over to the Optuna dashboard."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from results.analysis.importance import importances
from results.analysis.pareto import front, objectives
from results.records.optuna_trials import DIVERGED, attributes_of, read_journal, read_search
from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from results.records.trial_record import TrialRecord, best_record
from spinlock_dist.errors import ConfigError, SpinlockError
from study.dashboard import main
from study.dashboard_view import DashboardStorage, dashboard_application
from study.search.storage import open_journal
from tests.synthetic_study import build_study

INSTALLED = find_spec("optuna_dashboard") is not None
needs_dashboard = pytest.mark.skipif(not INSTALLED, reason="the Optuna dashboard is not installed")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a study of one trial."""
    folder = StudyFolder(tmp_path / "s")
    folder.path.mkdir()
    folder.write_description({"config": {}, "fingerprint": "f"})
    study = open_journal(folder.journal, "s")
    study.add_trial(optuna.create_trial(value=0.5))
    return tmp_path


def test_a_reader_cannot_write(runs):
    study = read_journal(runs / "s" / "optuna.journal")
    with pytest.raises(PermissionError, match="driver writes its journal"):
        study.set_user_attr("note", "mine")


def test_a_study_that_is_not_there_or_has_no_trials_is_refused(runs):
    with pytest.raises(ConfigError, match="did you mean 's'"):
        main(["ss", "--runs", str(runs)])
    (runs / "s" / "optuna.journal").unlink()
    with pytest.raises(SpinlockError, match="no trials yet"):
        main(["s", "--runs", str(runs)])


def test_of_a_tournament_a_strategy_has_to_be_named(runs):
    space = {"parameters": {"compression.strategy": {"choices": ["uniform", "balanced"]}}}
    StudyFolder(runs / "s").write_description({"config": {"tournament": True}, "space": space, "fingerprint": "f"})
    with pytest.raises(ConfigError, match="--arm: uniform, balanced"):
        main(["s", "--runs", str(runs)])
    with pytest.raises(SpinlockError, match="no trials yet"):
        main(["s", "--runs", str(runs), "--arm", "balanced"])


def test_an_arm_of_no_tournament_is_refused(runs):
    with pytest.raises(ConfigError, match="no tournament"):
        main(["s", "--runs", str(runs), "--arm", "balanced"])


# ---------------------------------------------------------------- what it is served


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study whose lowest imbalance is that of trials which break a guard, and with stopped ones."""
    folder = build_study(tmp_path_factory.mktemp("runs"), "made", 40)
    journal = open_journal(folder.journal, "made")
    [least, *_] = sorted(read_search(journal), key=lambda record: objective(record) or 9)
    stored = journal.trials[least.number]
    lucky = {
        **attributes_of(stored),
        "metrics": attributes_of(stored)["metrics"] | {"imbalance": 1.01, "log10_imbalance": 0.004},
    }
    template = {"params": stored.params, "distributions": stored.distributions, "value": 0.004}
    kept = dict.fromkeys(least.guards, -0.1)
    for constraints, attributes in (
        ({**kept, "fvu_mean": 0.2}, lucky),
        (kept, {**lucky, "kind": "collapsed codebook"}),
        (kept, {**lucky, "borrowed": "baseline"}),
    ):
        journal.add_trial(optuna.create_trial(user_attrs=attributes, constraints=constraints, **template))
    return folder


def objective(record: TrialRecord) -> float | None:
    return objectives(record.metrics)[0] if record.feasible and record.metrics else None


def asked(folder: StudyFolder, path: str, query: str = "") -> Any:
    """What the dashboard's server answers."""
    app = dashboard_application(folder.journal, read_study(folder, details=False))
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": path, "QUERY_STRING": query}
    told: list[str] = []
    body = b"".join(app(environ, lambda status, headers, *_: told.append(status)))
    assert told == ["200 OK"], body
    return json.loads(body)


@needs_dashboard
def test_the_best_trial_is_the_studys_own_and_what_is_infeasible_says_so(made):
    detail = asked(made, "/api/studies/0")
    records = read_search(read_journal(made.journal))
    best = best_record(records)
    assert best is not None
    assert [trial["number"] for trial in detail["best_trials"]] == [best.number]
    assert detail["best_trials"][0]["values"][0] > 0.004, "the lowest is not the best"
    infeasible = {trial["number"] for trial in detail["trials"] if any(value > 0 for value in trial["constraints"])}
    complete = {trial["number"] for trial in detail["trials"] if trial["state"] == "Complete"}
    assert complete - infeasible == {record.number for record in records if record.feasible}
    view = DashboardStorage(made.journal, 1, "")
    for trial in view.get_all_trials(0):
        if trial.system_attrs.get("constraints") and trial.state.name == "COMPLETE":
            named = [value for name, value in trial.constraints.items() if not name.isdecimal() and name != DIVERGED]
            assert trial.system_attrs["constraints"][: len(named)] == named, "under the new keys as well"
    assert view.get_trial(best.number).user_attrs["outcome"] == "feasible"


@needs_dashboard
def test_the_best_trial_is_told_to_a_page_that_asks_for_newer_ones_only(made):
    whole, newer = asked(made, "/api/studies/0"), asked(made, "/api/studies/0", "after=41")
    assert len(newer["trials"]) == len(whole["trials"]) - 41
    assert newer["best_trials"] == whole["best_trials"] != []


@needs_dashboard
def test_stopped_trials_are_on_the_scale_of_the_others(made):
    records = {record.number: record for record in read_search(read_journal(made.journal))}
    stopped = [trial for trial in asked(made, "/api/studies/0")["trials"] if trial["state"] == "Pruned"]
    assert any("values" in trial for trial in stopped)
    for trial in stopped:
        metrics = records[trial["number"]].metrics
        assert trial.get("values") == (metrics and [objectives(metrics)[0]])


@needs_dashboard
def test_objectives_have_names_and_a_note_says_what_is_what(made):
    detail = asked(made, "/api/studies/0")
    assert detail["objective_names"] == ["log10 imbalance"]
    assert "Intermediate values" in detail["note"]["body"] and str(made.report) in detail["note"]["body"]
    attributes = {each["key"]: each["value"] for each in detail["best_trials"][0]["user_attrs"]}
    assert attributes["outcome"] == "feasible" and float(attributes["imbalance"]) > 1


@needs_dashboard
def test_settings_are_weighed_as_in_the_report(made):
    [told] = asked(made, "/api/studies/0/param_importances")["param_importances"]
    study = read_study(made)
    ours = importances(read_search(read_journal(made.journal)), study.space(), study.settings)["imbalance"]
    assert {each["name"]: each["importance"] for each in told} == pytest.approx(ours)
    assert {each["distribution"] for each in told} <= {"FloatDistribution", "CategoricalDistribution"}


@needs_dashboard
def test_the_front_of_several_objectives_is_of_feasible_trials(tmp_path):
    folder = build_study(tmp_path, "several", 30, objective="pareto")
    detail = asked(folder, "/api/studies/0")
    study = read_study(folder)
    assert {trial["number"] for trial in detail["best_trials"]} == {record.number for record in front(study.search)}
    assert detail["objective_names"] == ["log10 imbalance", "mean FVU", "-utilization"]
    assert [bool(each) for each in asked(folder, "/api/studies/0/param_importances")["param_importances"]] == [
        True,
        False,
        False,
    ]


@needs_dashboard
def test_without_a_feasible_trial_there_is_no_best(tmp_path):
    folder = StudyFolder(tmp_path / "none")
    folder.path.mkdir()
    folder.write_description({"config": {}, "fingerprint": "f"})
    journal = open_journal(folder.journal, "none")
    journal.add_trial(
        optuna.create_trial(value=0.5, constraints={"bits": 1.0}, user_attrs={"state": "complete", "seed": 0})
    )
    detail = asked(folder, "/api/studies/0")
    assert detail["best_trials"] == [] and len(detail["trials"]) == 1
    assert asked(folder, "/api/studies/0/param_importances") == {"param_importances": [[]]}


@pytest.mark.skipif(INSTALLED, reason="the Optuna dashboard is installed")
def test_a_dashboard_that_is_not_installed_is_named(runs):
    with pytest.raises(SpinlockError, match="pip install optuna-dashboard"):
        main(["s", "--runs", str(runs)])


@needs_dashboard
def test_it_serves_the_study_and_changes_nothing(runs):
    before = (runs / "s" / "optuna.journal").read_bytes()
    command = [sys.executable, "-m", "study.dashboard", "s", "--runs", str(runs), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert address is not None
        with urllib.request.urlopen(f"{address[0]}/api/studies") as answer:
            [found] = json.load(answer)["study_summaries"]
        assert found["study_name"] == "s"
        host, port = address[0].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))):  # idle: it blocks nobody
            for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    urllib.request.urlopen(urllib.request.Request(f"{address[0]}/api/studies", headers=headers))
            with urllib.request.urlopen(f"http://localhost:{port}/api/studies", timeout=20) as answer:
                assert answer.status == 200
        delete = urllib.request.Request(f"{address[0]}/api/studies/{found['study_id']}", method="DELETE")
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(delete)
        taken = ["s", "--runs", str(runs), "--port", address[0].rsplit(":", 1)[1]]
        with pytest.raises(SpinlockError, match="name another with --port"):
            main(taken)
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert (runs / "s" / "optuna.journal").read_bytes() == before
