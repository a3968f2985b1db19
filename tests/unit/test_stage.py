"""Where a study stands: the same words from every command."""

from __future__ import annotations

import os
from typing import get_args

import pytest

from results.leaderboard import main as leaderboard
from results.records.optuna_trials import ENDED
from results.records.stage import OUTCOMES, count_in_words, outcome_in_words, phase_of, study_in_words
from results.records.study_record import read_study
from results.records.trial_record import State
from results.report.sections import about
from study.search.storage import open_journal
from study.status import main as status
from tests.driven import driven
from tests.synthetic_study import build_study


def first_line(command, folder, capsys) -> str:
    assert command([folder.name, "--runs", str(folder.path.parent)]) == 0
    return capsys.readouterr().out.splitlines()[0].partition(";")[0]


def test_status_leaderboard_and_report_say_the_same_in_every_phase(tmp_path, capsys):
    folder = build_study(tmp_path, "s", 10)
    journal = open_journal(folder.journal, "s")

    def said(words: str) -> None:
        assert first_line(status, folder, capsys) == first_line(leaderboard, folder, capsys) == f"s: {words}"
        assert about(read_study(folder)).endswith(f", {words}")

    journal.set_user_attr(ENDED, "all 10 trials are done")
    said("finished")
    folder.verdict.unlink()
    os.utime(folder.best / "config.yaml", (1, 1))
    said("interrupted, finals")
    with driven(folder):
        said("running, finals")
    os.utime(folder.best / "config.yaml")
    said("interrupted, verification")
    journal.set_user_attr(ENDED, None)
    said("interrupted, search")
    folder.records("baseline").unlink()
    assert first_line(status, folder, capsys) == "s: interrupted, baseline"


def test_a_tournament_searches_until_each_of_its_searches_has_ended(tmp_path):
    folder = build_study(tmp_path, "s", 4, space="quick", tournament=True)
    folder.verdict.unlink()
    assert phase_of(folder) == "search"
    for arm, search in folder.searches.items():
        assert phase_of(folder) == "search", arm
        open_journal(search.journal, "s").set_user_attr(ENDED, "all 4 trials are done")
    assert phase_of(folder) in ("finals", "verification")


def test_every_outcome_has_a_word_and_of_completed_trials_whether_it_is_feasible(make_record):
    assert {*OUTCOMES} == {*get_args(State)}
    assert count_in_words(["pruned", "complete", "complete"]) == "2 completed, 1 stopped early"
    assert count_in_words([]) == "none yet"
    assert outcome_in_words(make_record(1, 0.5, 0.1)) == "feasible"
    assert outcome_in_words(make_record(1, 0.5, 0.1, guards={"bits": 1.0, "mean": -1.0})) == "breaks bits"
    assert outcome_in_words(make_record(1, 0.5, 0.1, kind="collapsed codebook")) == "collapsed codebook"
    assert outcome_in_words(make_record(1, state="pruned")) == "stopped early"


@pytest.mark.parametrize("activity", ["running", "interrupted"])
def test_a_study_that_is_not_finished_names_its_phase(activity):
    assert study_in_words(activity, "baseline") == f"{activity}, baseline"
    assert study_in_words("finished", "verification") == "finished"
