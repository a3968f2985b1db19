"""Where a study stands, while it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from results.records.study_folder import StudyFolder
from results.records.trial_record import write_records
from spinlock_dist.metrics.record import Estimate
from study.search.storage import open_journal
from study.status import main


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a study in which ten trials run."""
    folder = StudyFolder(tmp_path / "s")
    folder.path.mkdir()
    folder.write_description({"config": {"trials": 20}, "space": {}, "fingerprint": "f"})
    study = open_journal(folder.journal, "s")
    for number in range(10):
        trial = study.ask()
        for epoch in range(1, number + 1):
            trial.report(1 / (epoch + 1), epoch)
    return tmp_path


def test_trials_that_run_are_shown_the_furthest_first(runs, capsys):
    assert main(["s", "--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("running   10"))
    assert lines[place + 1].strip() == "trial 9  epoch 9  worst 0.100"
    assert lines[place + 9].strip() == "and 2 more"


def test_all_of_them_are_in_the_json(runs, capsys):
    assert main(["s", "--runs", str(runs), "--json"]) == 0
    running = json.loads(capsys.readouterr().out)["running"]
    assert running[0] == {"trial": "trial-0", "epoch": None, "fvu_worst": None}
    assert running[5] == {"trial": "trial-5", "epoch": 5, "fvu_worst": pytest.approx(1 / 6)}


def test_imbalances_are_the_estimates_that_the_leaderboard_shows(runs, make_metrics, make_record, capsys):
    measured = make_metrics(0.5, 0.1)
    metrics = replace(measured, estimates={"imbalance": Estimate(value=4.2, low=3.9, high=4.5)})
    write_records(StudyFolder(runs / "s").records("baseline"), [make_record(0, phase="baseline", metrics=metrics)])
    assert main(["s", "--runs", str(runs)]) == 0
    assert "baseline  imbalance 4.20x" in capsys.readouterr().out
