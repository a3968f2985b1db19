"""Early stopping, and its memory across a resume."""

from __future__ import annotations

from types import SimpleNamespace

import optuna
import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.config import StoppingConfig
from study.stopping import make_scheduler

CONFIG = StoppingConfig(grace=5, reduction=2)


def stored(number: int, **values: float) -> optuna.trial.FrozenTrial:
    trial = optuna.trial.create_trial(value=1.0, intermediate_values={int(k[1:]): v for k, v in values.items()})
    trial.number = number
    return trial


def decide(scheduler: TrialScheduler, fvu_worst: float, epoch: int = 5) -> str:
    trial = SimpleNamespace(trial_id="new")
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "fvu_worst": fvu_worst})


@pytest.mark.parametrize(("fvu_worst", "decision"), [(0.9, TrialScheduler.STOP), (0.3, TrialScheduler.CONTINUE)])
def test_a_new_trial_is_held_against_stored_ones(fvu_worst, decision):
    told = [stored(0, e5=0.4), stored(1, e5=0.5), stored(2, e5=0.6)]
    assert decide(make_scheduler(CONFIG, 20, told), fvu_worst) == decision


def test_without_stored_trials_the_first_goes_on():
    assert decide(make_scheduler(CONFIG, 20, []), 0.9) == TrialScheduler.CONTINUE


def test_a_trial_is_safe_before_the_grace_period():
    assert decide(make_scheduler(CONFIG, 20, [stored(0, e2=0.1, e5=0.1)]), 0.9, epoch=4) == TrialScheduler.CONTINUE


@pytest.mark.parametrize(("config", "epochs"), [(StoppingConfig(enabled=False), 60), (StoppingConfig(grace=15), 10)])
def test_nothing_is_stopped_when_switched_off_or_too_short(config, epochs):
    assert type(make_scheduler(config, epochs, [])) is FIFOScheduler
