"""What to try next where nothing was feasible: a command that can be run as it is printed."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from results.analysis.next_step import next_step
from results.records.study_record import StudyRecord, read_study
from study.launch_options import make_parser, study_config
from tests.synthetic_study import build_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    return read_study(build_study(tmp_path_factory.mktemp("a folder") / "studies", "s", 12))


def without_feasible(study: StudyRecord, **changes: object) -> StudyRecord:
    records = [replace(each, guards={"fvu_worst": 0.2, "bits": -1.0}, **changes) for each in study.search]  # type: ignore[arg-type]
    return replace(study, records=[*study.phase("baseline"), *records])


def given(text: str) -> object:
    """The config of the command that is printed."""
    _, _, command = text.rpartition(": ")
    words = shlex.split(command)
    return study_config(make_parser().parse_args(words[words.index("--config") :]))


def test_nothing_is_said_where_a_trial_is_feasible_or_none_has_ended(study):
    assert next_step(study) == ""
    assert next_step(replace(study, records=study.phase("baseline"))) == ""


def test_strategies_that_work_come_first(study):
    text = next_step(without_feasible(study, params={"compression.strategy": "variance"}))
    assert (
        "that completed, the worst category is worse than the baseline's (fvu_worst). None tried feedback or waterfill"
        in text
    )
    assert given(text).space == "adaptive_compression"


def test_then_longer_training(study):
    text = next_step(without_feasible(study, params={"compression.strategy": "feedback"}))
    config = given(text)
    assert (config.epochs, config.name) == (2 * study.base().training.epochs, "s-again")
    assert config.runs == str(study.folder.path.parent)


def test_where_none_completed_the_story_of_one_is_named(study):
    text = next_step(without_feasible(study, state="diverged"))
    assert text.startswith("No trial completed") and text.endswith("--why 0")
