"""Early stopping: asynchronous successive halving on the worst category's FVU.

Never on the imbalance, whose best value 1 an untrained model has.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import optuna
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from study.config import StoppingConfig

METRIC = "fvu_worst"
TIME = "epoch"


def make_scheduler(config: StoppingConfig, epochs: int, told: Sequence[optuna.trial.FrozenTrial]) -> TrialScheduler:
    """Return the scheduler for trials of `epochs` epochs, its rungs filled with the trials `told` before.

    Ray never saves a scheduler. Replaying the stored reports through its public methods gives a resumed study the
    rungs it had, so that later trials are held against earlier ones.
    """
    if not config.enabled or config.grace >= epochs:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode="min",
        max_t=epochs,
        grace_period=config.grace,
        reduction_factor=config.reduction,
        stop_last_trials=False,  # a trial ends by itself, after it has written its checkpoint
    )
    controller = cast(Any, None)  # ASHA does not look at it
    for trial in told:
        stored: Any = SimpleNamespace(trial_id=f"stored-{trial.number}")
        scheduler.on_trial_add(controller, stored)
        for epoch, value in sorted(trial.intermediate_values.items()):
            scheduler.on_trial_result(controller, stored, {TIME: epoch, METRIC: value})
    return scheduler
