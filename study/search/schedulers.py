"""Early stopping of trials by the worst category's FVU, never by the imbalance: an untrained model has the best, 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any, cast

import optuna
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from study.config import StoppingConfig
from study.worker.actor import numbers_of, stop_members

METRIC = "fvu_worst"
TIME = "trained"


class PerTrialScheduler(FIFOScheduler):
    """Holds each trial of the study against the rule that `rule_of(number)` returns when the trial is first added.

    A trial that is tried again is a new one to Tune; here it stays the same, and counts once. Trials in lock step are
    one to Tune; here each is held against the rule by itself, and Tune stops what has none left.
    """

    def __init__(self, rule_of: Callable[[int], TrialScheduler]):
        super().__init__()
        self._rule_of = rule_of
        self._rules: dict[int, tuple[TrialScheduler, Any]] = {}
        self._stopped: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles schedulers with its own state, and this one is made anew from the stored reports."""
        return {}

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Leave it to Tune, which starts trials in the order asked for.

        The choice of `FIFOScheduler` may be a trial whose process is starting. It then gets the next process that falls
        free and its own is killed: while trials end faster than processes start, none that is missing ever comes up.
        """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Find the rule for each member."""
        for number in numbers_of(trial):
            if number not in self._rules:
                rule, same = self._rule_of(number), SimpleNamespace(trial_id=f"trial-{number}")
                self._rules[number] = rule, same
                rule.on_trial_add(tune_controller, cast(Any, same))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide for each member that reports."""
        stop = [report["number"] for report in result.get("reports", ()) if self._stops(tune_controller, report)]
        self._stopped.update(stop)
        if self._stopped.issuperset(numbers_of(trial)):
            return TrialScheduler.STOP
        if stop:
            stop_members(trial, stop)
        return TrialScheduler.CONTINUE

    def _stops(self, tune_controller: Any, report: dict[str, Any]) -> bool:
        number = report["number"]
        rule, same = self._rules[number]
        # One that was stopped may report again: its process was lost before it could end there.
        return number in self._stopped or rule.on_trial_result(tune_controller, same, report) == TrialScheduler.STOP


def make_scheduler(config: StoppingConfig, epochs: int, told: Sequence[optuna.trial.FrozenTrial]) -> TrialScheduler:
    """Return the scheduler for trials of `epochs` epochs, as if it had seen the trials `told` before.

    Ray never saves a scheduler. Replaying the stored reports through its public methods gives a resumed study what it
    knew, so that later trials are held against earlier ones.
    """
    if config.rule == "none" or config.grace >= epochs:
        return FIFOScheduler()
    scheduler = _asha(config, epochs) if config.rule == "asha" else MedianScheduler(config.grace, config.least_trials)
    controller = cast(Any, None)  # neither looks at it
    for trial in told:
        stored: Any = SimpleNamespace(trial_id=f"stored-{trial.number}")
        scheduler.on_trial_add(controller, stored)
        for epoch, value in sorted(trial.intermediate_values.items()):
            scheduler.on_trial_result(controller, stored, {TIME: epoch, METRIC: value})
    return scheduler


def _asha(config: StoppingConfig, epochs: int) -> TrialScheduler:
    return ASHAScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode="min",
        max_t=epochs,
        grace_period=config.grace,
        reduction_factor=config.reduction,
        stop_last_trials=False,  # a trial ends by itself, after it has written its checkpoint
    )


class MedianScheduler(FIFOScheduler):
    """Stops a trial whose best report so far is worse than the median of the other trials' means up to its epoch.

    Golovin et al. 2017, *Google Vizier*, section 3.2.2; means are taken from `grace` on. Ray's own pauses trials while
    it waits for others, and fails on one that ends without having reported, as a diverged trial does.
    """

    def __init__(self, grace: int, least_trials: int):
        super().__init__()
        self._grace = grace
        self._least = least_trials
        self._curves: dict[str, dict[int, float]] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Take a report and decide; a trial goes on if too few others have got as far."""
        if METRIC not in result:
            return TrialScheduler.CONTINUE
        epoch = int(result[TIME])
        curve = self._curves.setdefault(trial.trial_id, {})
        curve[epoch] = result[METRIC]
        if epoch < self._grace:
            return TrialScheduler.CONTINUE
        others = [other for name, other in self._curves.items() if name != trial.trial_id and max(other) >= epoch]
        means = [self._mean(other, epoch) for other in others]
        if len(means) < self._least or min(curve.values()) <= median(means):
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP

    def _mean(self, curve: dict[int, float], epoch: int) -> float:
        """Return the mean from `grace` to `epoch`; of what came before, if a trial reports less often than that."""
        within = [value for at, value in curve.items() if self._grace <= at <= epoch]
        return fmean(within or curve.values())
