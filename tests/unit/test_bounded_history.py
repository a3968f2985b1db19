"""A sampler that learns from a part of a long history."""

from __future__ import annotations

import random

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler, TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState

from study.config import StudyConfig
from study.samplers.bounded_history import BEST, MOST, BoundedHistory
from study.samplers.build import make_sampler

ended = st.tuples(
    st.sampled_from(["complete", "stopped", "silent", "failed"]),
    st.floats(-2, 2) | st.sampled_from([0.0, 1.0]),  # some alike
    st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
)


def tell(study: optuna.Study, trial: optuna.Trial, how: str, value: float, violated: float) -> None:
    trial.set_constraint("a", violated)
    trial.set_constraint("b", violated / 2)
    if how == "stopped":
        trial.report(value, trial.number % 3)
    state = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}.get(how, TrialState.PRUNED)
    study.tell(trial, value if how == "complete" else None, state=state)


def shown(sampler: BoundedHistory, study: optuna.Study) -> list[FrozenTrial]:
    study._thread_local.cached_all_trials = None
    return sampler._history.part_of(study)._get_trials(deepcopy=False)


@settings(deadline=None)
@given(st.lists(ended, min_size=12, max_size=60), st.integers(0, 10**6))
def test_tpe_is_shown_its_good_trials_and_the_same_others_whatever_the_order(what, seed):
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    trials = [study.ask() for _ in what]
    for trial in trials:
        trial.suggest_float("x", 0, 1)
    running = [study.ask() for _ in range(2)]
    sampler = BoundedHistory(TPESampler(), most=10, best=4)
    order = list(range(len(what)))
    random.Random(seed).shuffle(order)
    for place in order:
        tell(study, trials[place], *what[place])
        shown(sampler, study)
    found = shown(sampler, study)
    assert found == sorted(found, key=lambda trial: trial.number)
    assert {trial.number for trial in running} <= {trial.number for trial in found}
    assert [each.number for each in found] == [
        each.number for each in shown(BoundedHistory(TPESampler(), most=10, best=4), study)
    ]
    known = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len([trial for trial in found if trial.state.is_finished()]) == (
        min(10, len(known)) if len(known) > 10 else len(study.trials) - 2
    )
    good = [trial.number for trial in _split_trials(study, known, 4)[0]]
    ours = [trial for trial in found if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert [trial.number for trial in _split_trials(study, ours, 4)[0]] == good


@pytest.mark.parametrize("finished", [30, 60])
def test_while_there_are_few_trials_nothing_changes(finished):
    """With more it draws on, and what TPE asks of a study is there."""
    params = []
    for most in (50, 1000):
        sampler = BoundedHistory(TPESampler(seed=0, multivariate=True, group=True), most=most)
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 0, 5), n_trials=finished)
        params.append([trial.params for trial in study.trials])
    assert params[0][:50] == params[1][:50]
    assert (params[0] == params[1]) == (finished <= 50)


def test_of_a_study_that_tpe_searches_and_no_other():
    assert isinstance(make_sampler(StudyConfig(name="s", sampler="tpe")), BoundedHistory)
    assert not isinstance(make_sampler(StudyConfig(name="s", sampler="random")), BoundedHistory)
    assert BEST >= 25 and MOST > 10 * BEST  # of so many trials TPE takes 25 for good


def test_of_several_objectives_all_trials_are_shown():
    study = optuna.create_study(directions=["minimize"] * 2, sampler=RandomSampler(seed=0))
    for number in range(20):
        study.add_trial(optuna.create_trial(values=[number, -number]))
    assert len(shown(BoundedHistory(TPESampler(), most=10, best=4), study)) == 20
