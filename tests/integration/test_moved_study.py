"""A study is what it holds: it goes on under another name, in another place, with data that has moved, and with no
files of another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results.leaderboard import main as leaderboard
from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from results.records.trial_record import read_records
from spinlock_dist.errors import ConfigError, SpinlockError
from study import StudyConfig, run
from study.launch_options import make_parser, study_config
from study.pipeline import StudyResult
from study.status import main as status
from tests.toy import make_toy, small_study, write_dataset

pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of finished studies `a` and, of other settings, `other`, and of their data."""
    folder = tmp_path_factory.mktemp("begun")
    dataset = write_dataset(folder / "table.parquet")
    run(small_study(folder, dataset, name="a", trials=3), objective=make_toy())
    run(small_study(folder, dataset, name="other", trials=3, epochs=4), objective=make_toy())
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun, tmp_path / "f")
    return tmp_path / "f"


def resumed(folder: Path, name: str, **given: Any) -> StudyResult:
    return run(again(folder, name, **given), resume=True, objective=make_toy())


def again(folder: Path, name: str, **given: Any) -> StudyConfig:
    arguments = ["--resume", "--name", name, "--runs", str(folder / "runs")]
    for flag, value in given.items():
        arguments += [f"--{flag}", str(value)]
    return study_config(make_parser().parse_args(arguments))


def count(result: StudyResult) -> int:
    """The trials of a search, which must be numbered without a gap from that after its baseline on."""
    numbers = [record.number for record in result.search]
    assert numbers == list(range(1, len(numbers) + 1))
    return len(numbers)


def test_a_renamed_study_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_study(read_folder(folder, "a")).records
    (folder / "runs" / "a").rename(folder / "runs" / "b")
    runs = ["--runs", str(folder / "runs")]
    assert status(["b", *runs]) == status(["b", "--why", "1", *runs]) == leaderboard(["b", *runs]) == 0
    (folder / "runs" / "b" / "trials.parquet").unlink()  # then the journal is read
    assert {each.arm for each in read_study(read_folder(folder, "b")).records} == {each.arm for each in before}
    result = resumed(folder, "b", trials=5)
    assert count(result) == 5
    assert [record.params for record in result.search[:3]] == [each.params for each in before if each.phase == "search"]


def read_folder(folder: Path, name: str) -> StudyFolder:
    return StudyFolder(folder / "runs" / name)


def test_a_study_extends_under_another_name_in_another_place(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    shutil.copytree(folder / "runs" / "a", elsewhere / "copied")
    extended = study_config(make_parser().parse_args(["--extend", "+1", "--name", "copied", "--runs", str(elsewhere)]))
    assert count(run(extended, resume=True, objective=make_toy())) == 4


def test_data_that_has_moved_is_named_and_other_data_refused(folder: Path) -> None:
    (folder / "new").mkdir()
    (folder / "table.parquet").rename(folder / "new" / "data.parquet")
    moved = folder / "new" / "data.parquet"
    assert count(resumed(folder, "a", trials=4, dataset=moved)) == 4
    stored = read_folder(folder, "a").read_description()
    assert stored["config"]["base"]["prepare"]["dataset"] == str(moved)
    assert count(resumed(folder, "a", trials=4)) == 4  # and is known from there on
    pd.read_parquet(moved).iloc[::-1].to_parquet(folder / "other.parquet", index=False)
    with pytest.raises(ConfigError, match="was started on other data"):
        resumed(folder, "a", dataset=folder / "other.parquet")


def test_the_space_of_a_study_may_have_moved(folder: Path) -> None:
    (folder / "space.yaml").rename(folder / "new.yaml")
    assert count(resumed(folder, "a", trials=4, space=folder / "new.yaml")) == 4


@pytest.mark.parametrize("name", ["optuna.journal", "baseline.json", "final.json", "verification.json"])
def test_files_of_another_study_are_refused_with_what_they_belong_to(folder: Path, name: str) -> None:
    shutil.copyfile(folder / "runs" / "other" / name, folder / "runs" / "a" / name)
    with pytest.raises(ConfigError, match=rf"{name}: belongs to (the|another) (study|search)") as refused:
        resumed(folder, "a", trials=4)
    assert "\n" not in str(refused.value)


def test_tables_of_another_study_are_not_shown(folder: Path) -> None:
    shutil.copyfile(folder / "runs" / "other" / "trials.parquet", folder / "runs" / "a" / "trials.parquet")
    found = read_study(read_folder(folder, "a"))
    assert any("they belong to another study" in problem for problem in found.problems)
    assert [record.seed for record in found.search] == [0, 0, 0]


def test_nothing_outlives_the_trials_it_is_of(folder: Path) -> None:
    (folder / "runs" / "a" / "optuna.journal").unlink()
    with pytest.raises(ConfigError, match=r"optuna\.journal is missing, but its trials have left"):
        resumed(folder, "a")
    study = read_folder(folder, "a")
    study.trials.unlink()
    shutil.rmtree(study.checkpoint(0).parent, ignore_errors=True)
    with pytest.raises((ConfigError, SpinlockError), match=r"final\.json: belongs to another search"):
        resumed(folder, "a")


def test_records_of_an_earlier_version_are_taken_as_they_are(folder: Path) -> None:
    study = folder / "runs" / "a"
    for name in ("baseline.json", "final.json", "verification.json"):
        rows = json.loads((study / name).read_text())
        for row in rows:
            del row["identity"]
        (study / name).write_text(json.dumps(rows))
    known = read_folder(folder, "a").read_description()
    del known["identity"]
    read_folder(folder, "a").write_description(known)
    assert count(resumed(folder, "a", trials=4)) == 4
    assert len(read_records(study / "baseline.json")) == 1
