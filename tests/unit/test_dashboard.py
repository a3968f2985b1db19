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

import optuna
import pytest

from results.records.optuna_trials import read_journal
from results.records.study_folder import StudyFolder
from spinlock_dist.errors import ConfigError, SpinlockError
from study.dashboard import main
from study.search.storage import open_journal

INSTALLED = find_spec("optuna_dashboard") is not None


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


@pytest.mark.skipif(INSTALLED, reason="the Optuna dashboard is installed")
def test_a_dashboard_that_is_not_installed_is_named(runs):
    with pytest.raises(SpinlockError, match="pip install optuna-dashboard"):
        main(["s", "--runs", str(runs)])


@pytest.mark.skipif(not INSTALLED, reason="the Optuna dashboard is not installed")
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
