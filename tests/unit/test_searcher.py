"""The searcher against real Optuna storage."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces import Categorical, Float, SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import Metrics
from study.config import GuardsConfig, StudyConfig
from study.journal import abandon_running, open_journal, read_journal, read_search, repair, settled
from study.sampler import make_sampler
from study.searcher import MAX_FAILURES_IN_A_ROW, AskTellSearcher

SPACE = SearchSpace(
    name="test",
    description="",
    parameters={
        "compression.sharpness": Float(low=0.5, high=2.0),
        "compression.rule": Categorical(choices=("graded", "spinlock")),
    },
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


@pytest.fixture
def study(path: Path) -> optuna.Study:
    study = open_journal(path, "test")
    study.sampler = make_sampler(StudyConfig(name="test"), SPACE, 0)
    return study


@pytest.fixture
def make_searcher(study, make_metrics) -> Callable[..., AskTellSearcher]:
    def build(target: int = 10, space: SearchSpace = SPACE, **given) -> AskTellSearcher:
        return AskTellSearcher(
            study,
            space,
            TrialConfig(seed=7),
            target=target,
            baseline=make_metrics(0.5, 0.1),
            guards_config=GuardsConfig(),
            **given,
        )

    return build


def report(metrics: Metrics, epoch: int, status: str = "running") -> dict:
    row = {"epoch": epoch, "seconds": float(epoch), **metrics.scalars()}
    return {
        "epoch": epoch,
        "fvu_worst": metrics.fvu_worst,
        "seconds": float(epoch),
        "status": status,
        "reason": "",
        "hostname": "here",
        "curve": json.dumps(row),
        "metrics": json.dumps(metrics.__dict__),
    }


def test_a_suggestion_is_a_whole_config_and_its_number(make_searcher):
    given = make_searcher().suggest("a")
    config = TrialConfig.model_validate_json(given["config"])
    assert given["number"] == 0
    assert 0.5 <= config.compression.sharpness <= 2.0
    assert config.seed == 7


def test_a_complete_trial_is_told_with_value_curve_guards_and_metrics(make_searcher, make_metrics, path):
    told = []
    searcher = make_searcher(told=told.append)
    searcher.suggest("a")
    searcher.on_trial_result("a", report(make_metrics(0.6, 0.1), 5))
    last = report(make_metrics(0.4, 0.1), 10, "complete")
    searcher.on_trial_result("a", last)
    searcher.on_trial_complete("a", {**last, "done": True})  # Tune repeats the last result
    [record] = read_search(read_journal(path, "test"))
    assert told == [record]
    assert (record.state, record.epochs, record.seed, record.node) == ("complete", 10, 7, "here")
    assert record.feasible
    assert record.metrics == make_metrics(0.4, 0.1)
    assert [row["epoch"] for row in record.curve] == [5, 10]
    [trial] = read_journal(path, "test").trials
    assert trial.value == pytest.approx(make_metrics(0.4, 0.1).log10_imbalance)
    assert trial.intermediate_values == {5: 0.6, 10: 0.4}


def test_a_trial_stopped_by_the_scheduler_is_pruned_with_its_last_report(make_searcher, make_metrics, study):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_result("a", report(make_metrics(0.9, 0.1), 5))
    searcher.on_trial_complete("a", report(make_metrics(0.8, 0.1), 10))  # the stopping report comes only here
    [trial] = study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {5: 0.9, 10: 0.8}
    assert read_search(study)[0].state == "pruned"
    assert not read_search(study)[0].feasible


@pytest.mark.parametrize("status", ["diverged", "refused"])
def test_a_trial_without_a_score_is_infeasible_so_that_the_sampler_keeps_away(make_searcher, study, status):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"status": status, "reason": "epoch 3", "seconds": 1.0})
    [trial] = study.trials
    assert trial.state == TrialState.PRUNED
    assert max(trial.constraints.values()) > 0
    assert (read_search(study)[0].state, read_search(study)[0].reason) == (status, "epoch 3")


def test_a_dead_process_fails_its_trial(make_searcher, study):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", None, error=True)
    assert study.trials[0].state == TrialState.FAIL
    assert read_search(study)[0].reason == "its process died"


def test_an_infeasible_trial_is_never_best(make_searcher, make_metrics, study):
    searcher = make_searcher()
    for name, fvu in (("a", (0.5, 0.4)), ("b", (0.45, 0.1))):
        searcher.suggest(name)
        searcher.on_trial_complete(name, report(make_metrics(*fvu), 10, "complete"))
    assert study.best_trial.number == 1
    assert [record.feasible for record in searcher.records()] == [False, True]


def test_no_more_trials_are_asked_for_than_wanted(make_searcher, make_metrics):
    searcher = make_searcher(target=2)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") == Searcher.FINISHED
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 10, "complete"))
    assert searcher.suggest("c") == Searcher.FINISHED


def test_settings_that_contradict_each_other_are_told_and_not_run(make_searcher, study):
    space = SearchSpace(
        name="bad",
        description="",
        parameters={"compression.bounds.L0.low": Float(low=1.5, high=2.0)},  # above the default high of 1
    )
    searcher = make_searcher(target=3, space=space)
    assert searcher.suggest("a") == Searcher.FINISHED
    assert [record.state for record in read_search(study)] == ["refused"] * 3


def test_failure_after_failure_ends_the_search(make_searcher, study):
    searcher = make_searcher()
    for index in range(MAX_FAILURES_IN_A_ROW):
        assert isinstance(searcher.suggest(str(index)), dict)
        searcher.on_trial_complete(str(index), {"status": "failed", "reason": "ZeroDivisionError: x", "seconds": 0.1})
    assert searcher.suggest("next") == Searcher.FINISHED
    assert "ZeroDivisionError" in (searcher.failure or "")
    assert len(study.trials) == MAX_FAILURES_IN_A_ROW


def test_an_abandoned_trial_is_tried_once_more_with_the_same_settings(make_searcher, study):
    first = make_searcher().suggest("a")
    assert abandon_running(study, "lost") == 1
    assert settled(study) == []
    again = make_searcher().suggest("a")
    assert again["number"] == 1
    assert again["config"] == first["config"]
    abandon_running(study, "lost")
    assert not any(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in study.trials)


def test_a_restarted_trial_begins_its_curve_anew(make_searcher, make_metrics, study):
    searcher = make_searcher()
    searcher.suggest("a")
    for epoch in (5, 10, 5, 10, 15):
        searcher.on_trial_result("a", report(make_metrics(0.4, 0.1), epoch))
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 20, "complete"))
    assert [row["epoch"] for row in read_search(study)[0].curve] == [5, 10, 15, 20]


def test_the_study_is_never_pickled(make_searcher):
    assert pickle.loads(pickle.dumps(make_searcher())).__dict__ == {}


# ---------------------------------------------------------------- the journal


@pytest.mark.parametrize("tail", ['{"op_code": 5, "wor', '{"op_code": 5, "wor\n', "\x00\x00"])
def test_a_half_written_line_is_cut_off_and_kept_aside(make_searcher, make_metrics, path, tail):
    searcher = make_searcher()
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(make_metrics(0.4, 0.1), 10, "complete"))
    whole = path.read_bytes()
    with path.open("a") as journal:
        journal.write(tail)
    assert repair(path)
    assert path.read_bytes() == whole
    assert path.with_name("optuna.journal.damaged").read_bytes() == whole + tail.encode()
    assert len(read_search(open_journal(path, "test"))) == 1


def test_a_whole_journal_is_left_alone(path, study):
    before = path.read_bytes()
    assert not repair(path)
    assert path.read_bytes() == before


def test_a_killed_drivers_lock_does_not_delay_the_next(path, study):
    Path(f"{path}.lock").touch()
    open_journal(path, "test").ask()
    assert not Path(f"{path}.lock").exists()
