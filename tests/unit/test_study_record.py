"""A study read back: from its tables, from its journal, and as far as damage allows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from results.analysis.tables import write_tables
from results.records.optuna_trials import outcome
from results.records.study_folder import FORMAT, StudyFolder
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import TrialRecord, write_records
from results.report.render import render_report
from search_spaces import load_space
from search_spaces.space import space_content, space_of
from spinlock_dist.atomic_files import write_json
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, SpinlockError
from study.search.storage import open_journal
from tests.driven import driven, watched
from tests.synthetic_study import build_study

SPACE = load_space("quick")


@pytest.fixture
def records(make_record: Callable[..., TrialRecord], make_metrics: Callable) -> list[TrialRecord]:
    curve = [{"epoch": 5, "trained": 5, "seconds": 1.0, "fvu_worst": 0.6}]
    return [
        make_record(0, 0.8, 0.1, phase="baseline", arm="baseline"),
        make_record(0, 0.5, 0.1, params={"compression.strategy": "balanced"}, curve=curve, epochs=5),
        make_record(1, state="diverged", reason="epoch 3"),
        make_record(0, 0.5, 0.1, phase="final", arm="trial-0", test=make_metrics(0.6, 0.1, split="test")),
    ]


@pytest.fixture
def folder(tmp_path: Path, records: list[TrialRecord]) -> StudyFolder:
    """A study as its driver leaves it: description, journal, records of the other phases, tables."""
    folder = StudyFolder(tmp_path / "s")
    content = {"config": {"space": "quick", "base": {}}, "space": space_content(SPACE), "fingerprint": "f"}
    folder.write_description({"format": FORMAT, **content})
    study = open_journal(folder.journal, "s")
    for record in records[1:3]:
        trial = study.ask()
        for name, value in outcome(record).items():
            trial.set_user_attr(name, value)
        study.tell(trial, 1.0)
    study.ask()
    write_records(folder.records("baseline"), records[:1])
    write_records(folder.records("final"), records[3:])
    write_json(folder.summary, {"rows": {"train": 7}})
    write_tables(folder, records)
    return folder


def same(study: StudyRecord, records: list[TrialRecord]) -> bool:
    """Whether a study has the records, parameters apart: this journal's trials have none."""
    return [(r.phase, r.arm, r.state, r.metrics, r.test, r.curve) for r in study.records] == [
        (r.phase, r.arm, r.state, r.metrics, r.test, r.curve) for r in records
    ]


def test_whole_tables_are_the_record(folder, records):
    study = read_study(folder)
    assert study.records == records
    assert not study.problems
    assert study.best == records[1]
    assert study.prepared == {"rows": {"train": 7}}
    assert study.state == "interrupted"


def test_a_journal_that_has_grown_is_read_instead(folder, records):
    open_journal(folder.journal, "s").set_user_attr("more", 1)
    study = read_study(folder)
    assert same(study, records)
    assert study.running == ["trial-2"]
    assert not study.problems


@pytest.mark.parametrize("table", ["trials", "curves"])
def test_a_damaged_table_is_named_and_the_journal_read(folder, records, table):
    path = getattr(folder, table)
    os.truncate(path, path.stat().st_size // 2)
    study = read_study(folder)
    assert same(study, records)
    [problem] = study.problems
    assert f"{table}.parquet" in problem


def test_a_missing_curve_file_is_named_and_the_journal_read(folder, records):
    folder.curves.unlink()
    study = read_study(folder)
    assert same(study, records)
    assert len(study.problems) == 1


def test_a_damaged_journal_is_named_and_the_tables_read(folder, records):
    folder.journal.write_bytes(b"{}\n" + folder.journal.read_bytes())
    study = read_study(folder)
    assert study.records == records
    assert [problem.split(":")[0] for problem in study.problems] == [
        "optuna.journal",
        "the trials are those of trials.parquet, which may be older than the study",
    ]


def test_what_is_left_of_a_damaged_study_is_read(folder, records):
    folder.journal.write_bytes(b"{}\n" + folder.journal.read_bytes())
    folder.trials.unlink()
    folder.records("final").write_text("[{")
    folder.verdict.write_text("[]")
    study = read_study(folder)
    assert study.records == records[:1]
    assert [problem.split(":")[0] for problem in study.problems] == ["optuna.journal", "final.json", "verdict.json"]


def test_an_earlier_format_is_read(folder, records):
    content = yaml.safe_load(folder.description.read_text())
    folder.write_description({**content, "format": 1})
    study = read_study(folder)
    assert (study.records, study.problems) == (records, [])


def test_a_newer_format_is_named(folder, records):
    content = yaml.safe_load(folder.description.read_text())
    folder.write_description({**content, "format": FORMAT + 1})
    study = read_study(folder)
    assert study.records == records
    [problem] = study.problems
    assert f"format {FORMAT + 1}, this version reads {FORMAT}" in problem


def test_without_its_description_a_study_is_refused(folder):
    folder.description.write_text("[")
    with pytest.raises(ConfigError, match=r"study\.yaml, line 2: not valid YAML"):
        read_study(folder)


def test_a_study_knows_whether_it_runs(folder):
    with driven(folder):
        assert read_study(folder).state == "running"
    assert read_study(folder).state == "interrupted"
    with folder.lock():  # a driver that reads its own study is not in its own way
        assert read_study(folder).state == "interrupted"
    write_json(folder.verdict, {"exported": "trial-0"})
    assert read_study(folder).state == "finished"


def test_who_looks_whether_a_study_runs_is_in_no_drivers_way(folder):
    (folder.path / ".driver").write_text("process 1 on a machine that was killed")
    held = 0
    with watched(folder):
        for _ in range(300):
            with folder.lock():
                held += 1
            (folder.path / ".driver").write_text("process 1 on a machine that was killed")
    assert held == 300


def test_a_killed_driver_does_not_run(folder):
    (folder.path / ".driver").write_text("process 1 on a machine that was killed")
    assert not folder.is_running


def test_a_config_comes_from_the_space_as_it_was(folder, records):
    study = read_study(folder)
    assert study.config(records[1]) == SPACE.to_config(TrialConfig(), {"compression.strategy": "balanced"})
    assert study.config().compression.strategy == "uniform"
    del study.description["space"]
    with pytest.raises(SpinlockError, match="the search space cannot be read"):
        study.config()


@pytest.mark.parametrize("name", ["quick", "adaptive_compression", "capacity", "full"])
def test_a_space_survives_its_content(name):
    space = load_space(name)
    content = space_content(space)
    assert space_content(space_of(yaml.safe_load(yaml.safe_dump(content)), name)) == content


def test_finals_of_an_earlier_version_are_read(tmp_path, make_record, make_metrics):
    """Their effects have pairs and p-values, their records what replicates lost, their verdicts guards."""
    folder = build_study(tmp_path, "s", 6)
    effect = {"pairs": 6, "ratio": 0.5, "low": 0.4, "high": 0.6, "confidence": 0.95}
    effect |= {"p_lower": 0.001, "p_higher": 0.999, "lower_in": 6, "method": "t"}
    finding = {"arm": "trial-1", "verdict": "better", "why": "Because.", "replicates": 6, "ranks": [1, 1]}
    finding |= {
        "effects": {"imbalance": effect, "utilization": effect},
        "guards": {},
        "broken": [],
        "new_data": [0.3, 0.9],
    }
    told = {"level": 0.05, "findings": [finding], "conclusion": "Because.", "exported": "trial-1"}
    write_json(folder.verdict, told)
    final = make_record(0, phase="final", arm="trial-1", test=make_metrics(0.5, 0.1, split="test")).to_json()
    write_json(folder.records("final"), [{**final, "lost": ["summary::a"]}])
    folder.trials.unlink()
    study = read_study(folder)
    assert study.problems == []
    assert [record.arm for record in study.phase("final")] == ["trial-1"]
    assert str(study.effects["trial-1"]["imbalance"]) == "0.50 (0.40 to 0.60)"
    assert "Because." in render_report(study)
