"""How trials ended, in a sentence; and `study.status --why`, on a journal that the searcher has written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.analysis.trial_summary import count_outcomes, outcomes_in_words, tell_story
from results.records.study_folder import StudyFolder
from results.records.trial_record import Attempt, write_records
from search_spaces import Float, SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from study.cluster.resources import Resources
from study.config import GuardsConfig, StudyConfig
from study.search.constraints import Baseline
from study.search.searcher import AskTellSearcher, SearchPlan
from study.search.storage import open_journal
from study.status import main


@pytest.fixture
def records(make_record):
    return [
        make_record(0, 0.5, 0.1),
        make_record(1, 0.5, 0.1, kind="collapsed codebook"),
        make_record(2, 0.5, 0.1, guards={"bits": 0.1}),
        make_record(3, 0.5, 0.1, state="pruned", kind="collapsed codebook"),
        make_record(4, state="diverged", kind="non-finite"),
        make_record(5, state="failed", kind="exception"),
    ]


def test_the_sentence_says_how_many_could_not_be_best(records):
    assert outcomes_in_words(records) == (
        "3 of 6 trials completed, 1 of them feasible; 1 stopped early; 1 diverged; 1 failed. "
        "2 collapsed and cannot be the best."
    )
    assert outcomes_in_words(records[:1]) == "1 of 1 trials completed, 1 of them feasible."
    counts = count_outcomes(records)
    assert (counts["trials"], counts["refused"], counts["collapsed"], counts["feasible"]) == (6, 0, 2, 1)


def test_the_story_of_a_trial(make_record, make_metrics):
    attempts = [
        Attempt(began="2026-01-01T10:00:00", node="a", epochs=12, ended=True, kind="node lost", reason="its node was"),
        Attempt(began="2026-01-01T10:01:00", node="b", start=10, epochs=15, ended=True),
    ]
    record = make_record(
        7,
        0.6,
        0.2,
        state="pruned",
        reason="stopped after 15 epochs",
        attempts=attempts,
        guards={"bits": -0.01, "fvu_worst": 0.2},
        params={"compression.strategy": "feedback"},
        curve=[{"epoch": 5, "fvu_worst": 0.8}, {"epoch": 15, "fvu_worst": 0.6}],
    )
    story = tell_story(record, make_metrics(0.5, 0.1))
    for part in (
        "stopped early: stopped after 15 epochs",
        "1  2026-01-01T10:00:00  a  1 CPU  epochs 0 to 12  node lost: its node was",
        "2  2026-01-01T10:01:00  b  1 CPU  epochs 10 to 15\n",
        "imbalance 3.00x  worst 0.600 (c0)",
        "breaks fvu_worst (20.0% above its limit); keeps bits",
        "help x0.83, hurt x2.00",
        "5: 0.800  15: 0.600",
        "compression.strategy feedback",
    ):
        assert part in story


def test_a_setting_that_nothing_reads_beside_the_others_is_told_as_such(make_record, make_metrics):
    params = {"compression.strategy": "uniform", "compression.sharpness": 2.0, "training.learning_rate": 1e-3}
    story = tell_story(make_record(7, 0.5, 0.1, params=params), make_metrics(0.5, 0.1))
    assert "compression.sharpness 2.0  (no effect)\n" in story
    assert story.count("(no effect)") == 1


# ---------------------------------------------------------------- the command


@pytest.fixture
def runs(tmp_path: Path, make_record, make_metrics) -> Path:
    """A study of which trial 0 failed, trial 1 runs, and trial 2 has not been begun."""
    folder = StudyFolder(tmp_path / "s")
    folder.write_description({"config": StudyConfig(name="s").model_dump(mode="json"), "fingerprint": "f"})
    write_records(folder.records("baseline"), [make_record(0, 0.5, 0.1, phase="baseline", arm="baseline")])
    study = open_journal(folder.journal, "s")
    for sharpness in (0.7, 1.1, 1.5):
        study.enqueue_trial({"compression.sharpness": sharpness})
    plan = SearchPlan(
        space=SearchSpace(name="s", description="", parameters={"compression.sharpness": Float(low=0.5, high=2.0)}),
        base=TrialConfig(),
        target=3,
        baseline=Baseline(make_metrics(0.5, 0.1)),
        guards=GuardsConfig(),
        resources=Resources(concurrent=2, cpus=1, gpus=0),
    )
    searcher = AskTellSearcher(study, plan)
    searcher.suggest("a")
    searcher.suggest("b")
    failure = {"number": 0, "status": "failed", "kind": "exception", "reason": "KeyError: x", "seconds": 1.0}
    searcher.on_trial_complete("a", {"reports": [failure], "stopped": [], "hostname": "here"})
    return tmp_path


def test_why_tells_of_an_ended_a_running_and_a_waiting_trial(runs, capsys):
    told = []
    for trial in "012":
        assert main(["--runs", str(runs), "s", "--why", trial]) == 0
        told.append(capsys.readouterr().out)
    assert "failed (exception): KeyError: x" in told[0]
    assert "here" in told[0]
    assert "compression.sharpness 0.7" in told[0]
    assert "state     runs" in told[1]
    assert "running, or interrupted" in told[1]
    assert "waits to be tried\n" in told[2]
    assert main(["--runs", str(runs), "s", "--why", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "exception"


def test_a_trial_that_is_not_there_is_refused(runs, capsys):
    with pytest.raises(ConfigError, match="study 's' has no trial 3; its trials: 0 to 2"):
        main(["--runs", str(runs), "s", "--why", "3"])
    with pytest.raises(SystemExit) as exited:
        main(["--why", "3"])
    assert exited.value.code == 2
    assert "name the study too" in capsys.readouterr().err
