"""Early stopping, and its memory across a resume."""

from __future__ import annotations

from types import SimpleNamespace

import optuna
import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.config import StoppingConfig
from study.search.schedulers import make_scheduler

CONFIG = StoppingConfig(grace=5, reduction=2)
MEDIAN = StoppingConfig(rule="median", grace=5, least_trials=3)


def stored(number: int, **values: float) -> optuna.trial.FrozenTrial:
    trial = optuna.trial.create_trial(value=1.0, intermediate_values={int(k[1:]): v for k, v in values.items()})
    trial.number = number
    return trial


def decide(scheduler: TrialScheduler, fvu_worst: float, epoch: int = 5) -> str:
    trial = SimpleNamespace(trial_id="new")
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"trained": epoch, "fvu_worst": fvu_worst})


@pytest.mark.parametrize(("fvu_worst", "decision"), [(0.9, TrialScheduler.STOP), (0.3, TrialScheduler.CONTINUE)])
def test_a_new_trial_is_held_against_stored_ones(fvu_worst, decision):
    told = [stored(0, e5=0.4), stored(1, e5=0.5), stored(2, e5=0.6)]
    assert decide(make_scheduler(CONFIG, 20, told), fvu_worst) == decision


def test_epochs_of_pilots_are_no_training():
    scheduler, told = make_scheduler(CONFIG, 20, [stored(0, e5=0.4), stored(1, e5=0.5), stored(2, e5=0.6)]), []
    trial = SimpleNamespace(trial_id="feedback")
    scheduler.on_trial_add(None, trial)
    for epoch, trained in ((12, 2), (14, 4), (16, 6)):
        told.append(scheduler.on_trial_result(None, trial, {"epoch": epoch, "trained": trained, "fvu_worst": 0.9}))
    assert told == [TrialScheduler.CONTINUE, TrialScheduler.CONTINUE, TrialScheduler.STOP]


def test_without_stored_trials_the_first_goes_on():
    assert decide(make_scheduler(CONFIG, 20, []), 0.9) == TrialScheduler.CONTINUE


def test_a_trial_is_safe_before_the_grace_period():
    assert decide(make_scheduler(CONFIG, 20, [stored(0, e2=0.1, e5=0.1)]), 0.9, epoch=4) == TrialScheduler.CONTINUE


@pytest.mark.parametrize(("config", "epochs"), [(StoppingConfig(rule="none"), 60), (StoppingConfig(grace=15), 10)])
def test_nothing_is_stopped_when_switched_off_or_too_short(config, epochs):
    assert type(make_scheduler(config, epochs, [])) is FIFOScheduler


# ---------------------------------------------------------------- median

# means from epoch 5 on: 0.4, 0.5, 0.6
TOLD = [stored(0, e2=9, e5=0.4, e10=0.4), stored(1, e5=0.6, e10=0.4), stored(2, e5=0.7, e10=0.5)]


@pytest.mark.parametrize(
    ("fvu_worst", "epoch", "decision"),
    [
        (0.51, 10, TrialScheduler.STOP),
        (0.49, 10, TrialScheduler.CONTINUE),
        (0.61, 5, TrialScheduler.STOP),  # at epoch 5 the median of 0.4, 0.6, 0.7
        (0.59, 5, TrialScheduler.CONTINUE),
        (0.9, 4, TrialScheduler.CONTINUE),  # within grace
        (0.9, 12, TrialScheduler.CONTINUE),  # nobody has come so far
    ],
)
def test_a_trial_is_held_against_the_median_of_the_others_means(fvu_worst, epoch, decision):
    assert decide(make_scheduler(MEDIAN, 20, TOLD), fvu_worst, epoch) == decision


def test_the_median_forgives_a_trial_that_was_better_before_and_waits_for_enough_others():
    scheduler = make_scheduler(MEDIAN, 20, TOLD)
    assert decide(scheduler, 0.45, 5) == TrialScheduler.CONTINUE
    assert decide(scheduler, 0.9, 10) == TrialScheduler.CONTINUE  # its best is still below the median
    assert decide(make_scheduler(MEDIAN, 20, TOLD[:2]), 0.9, 10) == TrialScheduler.CONTINUE


def test_trials_that_end_without_a_report_leave_the_median_alone():
    """Ray's own rule reads the last result of every trial, and fails on one that says only why it ended."""
    scheduler = make_scheduler(MEDIAN, 20, TOLD)
    broken = SimpleNamespace(trial_id="broken")
    assert scheduler.on_trial_result(None, broken, {"status": "diverged"}) == TrialScheduler.CONTINUE
    scheduler.on_trial_complete(None, broken, {"status": "diverged"})
    assert decide(scheduler, 0.51, 10) == TrialScheduler.STOP
