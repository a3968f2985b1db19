"""The leaderboard as a command: finished, running and damaged studies, tournaments, and what scripts read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from results.leaderboard import main
from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from results.records.trial_record import ranking
from results.verdict.finding import WORDS
from spinlock_dist.errors import ConfigError
from tests.driven import driven
from tests.synthetic_study import build_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return build_study(tmp_path_factory.mktemp("runs"), "s", 40, finals={"top": 2})


def shown(folder: StudyFolder, capsys: pytest.CaptureFixture, *options: str) -> tuple[str, str]:
    assert main([folder.name, "--runs", str(folder.path.parent), *options]) == 0
    return capsys.readouterr()


def test_it_ranks_the_feasible_and_names_what_the_others_break(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out, err = shown(folder, capsys, "--rows", "100")
    study = read_study(folder)
    ranked = ranking(study.search)
    rows = re.findall(r"^ +(\d*) +(\d+) +([\d.]+)x", out, re.MULTILINE)
    assert [(int(number), float(ratio)) for _, number, ratio in rows] == [
        (record.number, round(record.metrics.imbalance, 2)) for record in ranked
    ]
    assert [place for place, *_ in rows if place] == [str(n + 1) for n in range(sum(each.feasible for each in ranked))]
    for figure, words in (("imbalance", "x"), ("fvu_worst", "worst x"), ("fvu_mean", "mean x")):
        effect = study.effects[study.best.arm][figure]
        assert re.search(rf"{words}{effect.ratio:.2f}\s+\({effect.low:.2f}-{effect.high:.2f}\)", out)
    assert "breaks fvu_" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert not err


def test_scripts_read_every_completed_trial(folder, capsys):
    out, _ = shown(folder, capsys, "--json")
    content = json.loads(out)
    study = read_study(folder)
    assert [row["trial"] for row in content["trials"]] == [record.arm for record in ranking(study.search)]
    first = content["trials"][0]
    assert first["rank"] == 1
    imbalance = first["replicated"]["imbalance"]
    assert imbalance["low"] < imbalance["ratio"] < imbalance["high"]
    assert first["verdict"] in WORDS
    config = study.config(ranking(study.search)[0]).compression
    assert (first["strategy"], first["capacity"]) == (config.strategy, config.capacity)
    infeasible = next(row for row in content["trials"] if not row["feasible"])
    assert infeasible["rank"] is None
    assert all(value > 0 for value in infeasible["broken"].values())
    assert content["baseline"]["imbalance"] == study.baseline.metrics.imbalance


def test_a_study_that_runs_is_shown_as_far_as_it_is(tmp_path, capsys):
    folder = build_study(tmp_path, "s", 10, finished=False, running=2)
    with driven(folder):
        out, _ = shown(folder, capsys)
    assert out.startswith("s: running, search; 2 trials running or waiting\n")
    assert "of 8 trials completed" in out
    folder.records("baseline").unlink()
    out, _ = shown(folder, capsys)
    assert "its baseline is not trained yet" in out
    assert json.loads(shown(folder, capsys, "--json")[0])["baseline"] is None


def test_a_tournament_shows_its_standings_and_names_searches(tmp_path, capsys):
    folder = build_study(tmp_path, "s", 4, space="quick", tournament=True)
    out, _ = shown(folder, capsys, "--rows", "50")
    assert "ratio to the baseline, interval" in out
    assert re.search(r"^ +\d+ +balanced \d ", out, re.MULTILINE)
    assert len(json.loads(shown(folder, capsys, "--json")[0])["standings"]) == 7
    folder.tournament.write_text('[{"arm": "balanced"}]')
    out, err = shown(folder, capsys)
    assert "ratio to the baseline, interval" not in out
    assert err.startswith("s: tournament.json: cannot be read")


def test_damage_is_a_line_on_stderr(tmp_path: Path, capsys):
    folder = build_study(tmp_path, "s", 6)
    os.truncate(folder.trials, 100)
    folder.verdict.write_text("{")
    out, err = shown(folder, capsys)
    assert len(err.splitlines()) == 2
    assert "trials.parquet" in err and "verdict.json" in err
    assert "of 6 trials completed" in out


def test_what_is_not_there_is_refused(folder, capsys):
    with pytest.raises(ConfigError, match="no study 'S'"):
        main(["S", "--runs", str(folder.path.parent)])
    with pytest.raises(SystemExit) as stopped:
        main(["s", "--rows", "0"])
    assert stopped.value.code == 2
