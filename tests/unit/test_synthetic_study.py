"""The study that tests read instead of a trained one is whole, in every state, from tables and journal alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from spinlock_dist.config_file import load_config
from tests.synthetic_study import build_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return build_study(tmp_path_factory.mktemp("runs"), "s", 60, seed=1)


def test_it_is_read_whole_and_trials_ended_in_every_way(folder):
    study = read_study(folder)
    assert study.state == "finished"
    assert not study.problems
    assert {record.state for record in study.search} >= {"complete", "pruned", "diverged"}
    assert {record.feasible for record in study.search if record.state == "complete"} == {True, False}
    assert any(len(record.attempts) == 2 for record in study.search)
    assert len(study.prepared["characteristics"]) == 10
    assert study.best is not None
    assert load_config(folder.best / "config.yaml") == study.config(study.best)


def test_its_tables_say_what_its_journal_says(folder):
    tables = read_study(folder).records
    folder.trials.rename(folder.path / "away")
    journal = read_study(folder).records
    (folder.path / "away").rename(folder.trials)
    assert tables == journal


def test_one_that_was_interrupted_has_trials_that_run(tmp_path: Path):
    study = read_study(build_study(tmp_path, "s", 8, finished=False, running=2))
    assert study.state == "interrupted"
    assert study.running == ["trial-6", "trial-7"]
    assert len(study.search) == 6


def test_a_tournament_has_a_search_a_strategy(tmp_path: Path):
    study = read_study(build_study(tmp_path, "s", 3, space="quick", tournament=True))
    assert {record.arm.split("/")[0] for record in study.search} == {row["arm"] for row in study.standings}
    assert len(study.search) == 24
    assert not study.problems
