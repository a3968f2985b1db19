"""When a search ends, over all runs of a study, and how it is extended."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from results.records.optuna_trials import STATE, finished_trials
from study.cluster.resources import ResourceError, Resources
from study.config import StudyConfig, UntilConfig
from study.search.expected_gain import expected_gain
from study.search.stop_criteria import Progress, StopCriteria, check_stop_criteria, with_more_trials
from study.search.storage import open_journal

ONE_CPU = Resources(concurrent=1, cpus=1, gpus=0)


def told(imbalance: float, *more: float, state: str = "COMPLETE", broken: float = 0) -> FrozenTrial:
    values = [math.log10(imbalance), *more] if state == "COMPLETE" else None
    trial = optuna.create_trial(state=TrialState[state], values=values, constraints={"g": broken})
    trial.number = 7
    return trial


def reached(until: UntilConfig, ended: list[FrozenTrial]) -> str | None:
    progress = Progress(until)
    for trial in ended:
        progress.add(trial)
    return progress.reason()


# ---------------------------------------------------------------- imbalance


def test_a_feasible_trial_at_the_target_ends_the_search():
    until = UntilConfig(imbalance=2)
    assert reached(until, [told(3), told(1.5, broken=0.1), told(1.2, state="PRUNED")]) is None
    assert reached(until, [told(3), told(1.9)]) == "trial 7 has imbalance 1.90x, the target is 2x"
    assert reached(until.model_copy(update={"since": 2}), [told(3), told(1.9), told(2.5)]) is None


# ---------------------------------------------------------------- no improvement


@pytest.mark.parametrize(
    ("imbalances", "ends"),
    [
        ([5, 4, 3], False),
        ([3, 4, 5, 6], True),
        ([3, 4, 5], False),
        ([3, 3, 3, 3], True),  # as good is no better
        ([5, 6, 6, 4, 6, 6], False),
        ([5, 6, 6, 4, 6, 6, 4], True),
    ],
)
def test_trials_in_a_row_without_improvement_end_the_search(imbalances, ends):
    reason = reached(UntilConfig(no_improvement=3), [told(each) for each in imbalances])
    assert reason == ("3 trials in a row brought no improvement" if ends else None)


def test_infeasible_and_stopped_trials_improve_nothing():
    row = [told(5), told(2, broken=0.1), told(2, state="PRUNED"), told(2, state="FAIL")]
    assert reached(UntilConfig(no_improvement=3), row)
    assert reached(UntilConfig(no_improvement=3), row[1:])
    assert not reached(UntilConfig(no_improvement=3), row[2:])


def test_what_is_new_on_the_front_is_an_improvement():
    row = [told(5, 0.3, -1), told(6, 0.2, -1), told(7, 0.3, -0.9), told(6, 0.2, -1)]
    assert reached(UntilConfig(no_improvement=2), row)
    assert not reached(UntilConfig(no_improvement=2), row[:3])


def test_an_extension_counts_anew_but_knows_what_was_found_before():
    until, row = UntilConfig(no_improvement=3, since=4), [told(3), told(4), told(4), told(4)]
    assert not reached(until, row)
    assert not reached(until, [*row, told(4), told(4)])
    assert reached(until, [*row, told(4), told(4), told(3.5)])
    assert not reached(until, [*row, told(4), told(4), told(2.5)])


def test_what_ends_while_a_search_runs_counts_once_optuna_is_told(make_record):
    study = searched(2, 0.4)
    limits = StopCriteria(UntilConfig(no_improvement=3), study)
    assert limits.reason() is None
    trials = [study.ask() for _ in range(3)]
    for trial in trials:
        trial.set_user_attr(STATE, "complete")
        trial.set_constraint("g", -1)
        limits.on_trial_end(make_record(trial.number))
    study.tell(trials[2], 9)
    assert limits.reason() is None
    study.tell(trials[0], 9)
    assert limits.reason() == "3 trials in a row brought no improvement"


def test_a_limit_that_was_reached_stays_so_when_a_trial_that_still_ran_improves():
    def reason(until: UntilConfig) -> str | None:
        return StopCriteria(until, study).reason()

    until, study = UntilConfig(no_improvement=3), searched(4, 0.4)
    running = study.ask()
    limits = StopCriteria(until, study)
    assert limits.reason() == "3 trials in a row brought no improvement"
    running.set_constraint("g", -1)
    running.set_user_attr(STATE, "complete")
    study.tell(running, 0.1)
    assert limits.reason() == reason(until) == "3 trials in a row brought no improvement"
    assert reason(UntilConfig(no_improvement=4)) is reason(UntilConfig(no_improvement=3, since=4)) is None


def test_what_more_would_gain_is_estimated_at_the_same_trials_after_a_resume(monkeypatch):
    """At every fourth: an estimate in between might end a deterministic search where another goes on."""
    study, looked = searched(0, 0.0), []

    def gain(study: optuna.Study) -> float:
        looked.append(len(study.trials))
        return 0.5

    monkeypatch.setattr("study.search.stop_criteria.expected_gain", gain)
    for trial in searched(13, 0.4).trials:
        study.add_trial(trial)
        assert StopCriteria(UntilConfig(gain=0.01), study).reason() is None
    assert looked == [4, 8, 12]


# ---------------------------------------------------------------- what more would gain


def searched(trials: int, slope: float, broken: float = -1) -> optuna.Study:
    """A study of imbalances that fall to the low end of a parameter, of which the lower half is not tried yet."""
    study = optuna.create_study()
    for number in range(trials):
        x = 0.5 + 0.5 * (0.618 * number % 1)
        study.add_trial(
            optuna.create_trial(
                params={"x": x},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                value=0.5 + slope * x,
                user_attrs={STATE: "complete"},
                constraints={"g": broken},
            )
        )
    return study


def test_a_search_ends_when_more_trials_are_expected_to_gain_too_little():
    def reason(study: optuna.Study, gain: float) -> str | None:
        return StopCriteria(UntilConfig(gain=gain), study).reason()

    flat, steep = searched(20, 0.0), searched(20, 0.4)
    assert reason(flat, 0.01) == "12 more trials would be expected to gain 0.0%, the limit is 1.0%"
    assert reason(steep, 0.05) is None
    gain = expected_gain(steep)
    assert gain == expected_gain(steep)
    assert 0.05 < gain < 1 - 10**-0.2  # as if the slope went on, at most


def test_of_few_trials_and_of_none_that_keeps_the_guards_nothing_is_expected():
    assert expected_gain(searched(8, 0.0)) is None
    assert expected_gain(searched(20, 0.4, broken=1.0)) is None
    assert expected_gain(optuna.create_study(directions=["minimize"] * 3)) is None


# ---------------------------------------------------------------- time


@pytest.fixture
def clock(monkeypatch):
    """Hours that pass when the test says so."""
    hours = [0.0]
    monkeypatch.setattr("study.search.stop_criteria.time.monotonic", lambda: hours[0] * 3600)
    return hours


def test_hours_count_over_all_runs_and_pauses_do_not(tmp_path, clock):
    def run(hours: float, until: UntilConfig) -> str | None:
        limits = StopCriteria(until, open_journal(tmp_path / "j", "s"), lambda: 2)
        clock[0] += hours
        reason = limits.reason()
        limits.keep()
        clock[0] += 100  # until it is resumed
        return reason

    until = UntilConfig(hours=2.5)
    assert run(1, until) is None
    assert run(1, until) is None
    assert run(0.5, until) == "2.5 hours of search are spent"
    assert run(0, UntilConfig(gpu_hours=5)) == "5 GPU-hours of search are spent"  # two GPUs
    assert run(0, UntilConfig(gpu_hours=5.1)) is None
    assert run(1, UntilConfig(hours=2.5, since=3)) is None  # extended: counts anew
    assert run(1.5, UntilConfig(hours=2.5, since=3)) == "2.5 hours of search are spent"


def test_gpu_hours_count_the_gpus_that_there_were(tmp_path, clock):
    gpus = [2.0]
    limits = StopCriteria(UntilConfig(gpu_hours=18), open_journal(tmp_path / "j", "s"), lambda: gpus[0])
    clock[0] += 1
    assert limits.reason() is None
    gpus[0] = 8  # nodes have joined
    clock[0] += 1
    assert limits.spent() == {"hours": 2, "gpu_hours": 10}
    clock[0] += 1
    assert limits.reason() == "18 GPU-hours of search are spent"


def test_gpu_hours_on_cpu_are_refused():
    with pytest.raises(ResourceError, match="--max-gpu-hours: this study runs on CPU"):
        check_stop_criteria(UntilConfig(gpu_hours=1), ONE_CPU)
    check_stop_criteria(UntilConfig(gpu_hours=1), Resources(concurrent=1, cpus=1, gpus=0.5))


# ---------------------------------------------------------------- extension


def test_an_extension_asks_for_more_than_has_an_outcome():
    study = optuna.create_study()
    for number in range(5):
        trial = study.ask()
        if number < 3:
            trial.set_user_attr(STATE, "complete")
            study.tell(trial, 1.0)
    assert len(finished_trials(study)) == 3
    config = with_more_trials(StudyConfig(name="s", trials=50, until=UntilConfig(hours=2)), study, 100)
    assert (config.trials, config.until) == (103, UntilConfig(hours=2, since=3))
