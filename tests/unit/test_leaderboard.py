"""The leaderboard as a command: finished, running and damaged studies, tournaments, and what scripts read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from results.leaderboard import main
from results.records.settings import TrialSettings
from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from results.records.trial_record import ranking
from results.report.sections.config import section
from results.verdict.finding import WORDS
from spinlock_dist.config import TrialConfig
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
    assert "breaks fvu_" in out and "no rank: not feasible" in out
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
    assert len(json.loads(shown(folder, capsys, "--json")[0])["standings"]) == 8
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


# ---------------------------------------------------------------- widths


def table_rows(text: str) -> list[list[str]]:
    """The words of each line of the table that begins a trial."""
    return [line.split() for line in text.splitlines() if re.match(r" *(\d+ +)?(\d+|baseline) +[\d.]+x", line)]


@pytest.mark.parametrize("width", [40, 55, 80, 200])
def test_a_narrow_terminal_has_fewer_columns_and_every_figure_whole(folder, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out, _ = shown(folder, capsys, "--rows", "100")
    table = out[: out.index("±: half")]
    assert max(map(len, out.splitlines())) <= width
    study = read_study(folder)
    headings = {"worst": "fvu_worst", "mean": "fvu_mean"}
    present = [name for name in headings if re.search(rf"^rank.* {name} ", table, re.MULTILINE)]
    assert len(present) == (0 if width == 40 else 1 if width == 55 else 2)
    rows = table_rows(table)
    assert len(rows) == 1 + len(ranking(study.search))
    for row, record in zip(rows, [study.baseline, *ranking(study.search)], strict=True):
        for name in ("imbalance", *(headings[each] for each in present)):
            assert record.metrics.in_words(name).split()[0] in row
    assert "\x1b" not in out


def test_rows_that_differ_read_differently(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out, _ = shown(folder, capsys, "--rows", "100")
    study = read_study(folder)
    told = study.settings.apart([study.baseline, *ranking(study.search)])
    assert len(set(told[1:])) == len({json.dumps(each.params, sort_keys=True) for each in ranking(study.search)})
    assert told[0] == "uniform, learning rate 0.005, commitment 3"
    assert all(text in out for text in told)
    assert any(re.search(r"L0 [\d.]+-[\d.]+", text) for text in told)


def test_what_all_rows_have_is_not_said(make_record):
    records = [make_record(n, 0.5, 0.1, params={"loss.commitment": 3.0, "seed": 1 + n / 1000}) for n in range(2)]
    assert TrialSettings({}).apart(records) == ["seed 1", "seed 1.001"]


def test_only_feasible_trials_have_a_rank_in_the_report_too(folder):
    [table] = [each for each in section(read_study(folder)).tables if "rank" in each.heads]
    study = read_study(folder)
    ranks = [row[0] and row[0].sort for row in table.rows]
    assert ranks == [n if each.feasible else None for n, each in enumerate(ranking(study.search), start=1)]
    assert None in ranks
    assert len({row[-2] for row in table.rows}) == len(table.rows)


def test_trials_are_told_apart_by_what_is_read(make_record):
    """Two that train alike read alike; of the baseline what it reads is told, and no more."""
    settings = TrialSettings.of(TrialConfig())
    spread = {"compression.rule": "graded", "compression.sharpness": 2.0, "quantizer.fsq_levels": 5}
    records = [
        make_record(0, arm="baseline", phase="baseline"),
        make_record(1, params={"compression.strategy": "uniform", "training.learning_rate": 1e-3, **spread}),
        make_record(2, params={"compression.strategy": "uniform", "training.learning_rate": 1e-3}),
        make_record(3, params={"compression.strategy": "balanced", "training.learning_rate": 1e-3, **spread}),
    ]
    assert settings.apart(records) == [
        "uniform, learning rate 0.005",
        "uniform, learning rate 0.001",
        "uniform, learning rate 0.001",
        "balanced graded codes, learning rate 0.001, sharpness 2",
    ]
