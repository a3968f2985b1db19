"""Files of a study that are deleted while it runs, or before it is resumed."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import pytest

from results.records.study_folder import StudyFolder
from spinlock_dist.errors import ConfigError
from study.search.storage import open_journal
from tests.synthetic_study import build_study
from tests.unit.test_damaged_study import begin_to_resume


def test_a_journal_that_is_deleted_while_it_is_written_is_written_again(tmp_path: Path) -> None:
    path, said = tmp_path / "optuna.journal", list[str]()
    study = open_journal(path, "s", say=said.append)
    study.tell(study.ask(), 1.0)
    path.unlink()
    study.tell(study.ask(), 2.0)
    path.unlink()
    assert [trial.value for trial in study.trials] == [1.0, 2.0]
    assert said == [f"{path} had gone while the study ran; it was written again, nothing is lost"] * 2
    assert [trial.value for trial in open_journal(path, "s").trials] == [1.0, 2.0]


def test_a_journal_whose_folder_is_deleted_too_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    study = open_journal(folder / "optuna.journal", "s")
    shutil.rmtree(folder)
    folder.mkdir()  # as Tune does, which makes the folders that it writes to
    with pytest.raises(FileNotFoundError):
        study.ask()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("tournament", [False, True])
def test_a_search_is_not_begun_anew_where_its_journal_is_missing(tmp_path: Path, tournament: bool) -> None:
    build_study(tmp_path, "s", 6, tournament=tournament)
    args = ["s", "--runs", str(tmp_path)]
    assert begin_to_resume(args) == 0
    search = next(iter(StudyFolder(tmp_path / "s").searches.values()))
    search.journal.unlink()
    with pytest.raises(ConfigError, match=r"optuna\.journal is missing, but its trials have left .*: restore the"):
        begin_to_resume(args)


def test_one_that_was_ended_before_its_search_goes_on(tmp_path: Path) -> None:
    folder = build_study(tmp_path, "s", 6, finished=False)
    folder.journal.unlink()
    folder.trials.unlink(missing_ok=True)
    shutil.rmtree(folder.tune, ignore_errors=True)
    assert begin_to_resume(["s", "--runs", str(tmp_path)]) == 0


def test_a_journal_that_nobody_needs_any_more_is_closed(tmp_path: Path) -> None:
    study = open_journal(tmp_path / "optuna.journal", "s")
    opened = [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.resolve().parent == tmp_path]
    assert opened
    study.itself = study  # type: ignore[attr-defined]  # a cycle, which the collector takes apart in any order
    del study
    gc.collect()
    assert not [link for link in opened if link.exists() and link.resolve().parent == tmp_path]
