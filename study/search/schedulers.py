"""Early stopping of trials by the worst category's FVU, never by the imbalance: an untrained model has the best, 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any, cast

import optuna
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from study.cluster.ray_internals import without_cutoffs
from study.config import StoppingConfig
from study.worker.actor import numbers_of, stop_members

METRIC = "fvu_worst"
TIME = "trained"


class PerTrialScheduler(FIFOScheduler):
    """Applies to each trial of the study the rule that `rule_of(number)` returns when the trial is first added.

    Tune takes a trial that is tried again for a new one; here it stays the same and counts once. Tune takes trials in
    lock step for one; here the rule is applied to each, and Tune stops the batch when all of them are stopped.
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
        """Leave the choice to Tune, which starts trials in the order they were suggested.

        `FIFOScheduler` may choose a trial whose actor is still starting. Tune then gives it the next actor that is free
        and kills the one that is starting. While trials end faster than actors start, the missing ones never come up.
        """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Find the rule for each member."""
        for number in numbers_of(trial):
            if number not in self._rules:
                rule, same = self._rule_of(number), SimpleNamespace(trial_id=f"trial-{number}")
                self._rules[number] = rule, same
                rule.on_trial_add(tune_controller, cast(Any, same))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide for each member that reports. A result without a report is of a process that keeps a device."""
        if not result.get("reports"):
            return TrialScheduler.CONTINUE
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


class NeverStop(FIFOScheduler):
    """Lets a rule see a trial's reports without stopping that trial."""

    def __init__(self, rule: TrialScheduler):
        super().__init__()
        self._rule = rule

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Let the rule know of the trial."""
        self._rule.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let the rule see the report; go on."""
        self._rule.on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE


def make_scheduler(config: StoppingConfig, epochs: int, ended: Sequence[optuna.trial.FrozenTrial]) -> TrialScheduler:
    """The scheduler for trials of `epochs` epochs, in the state in which it has seen the trials `ended`.

    Ray does not save schedulers. All that ASHA knows is the value that each trial reported at each rung, and all that
    the median rule knows is the curves. Neither depends on the order in which trials reported. So an empty scheduler
    that is given the stored reports again, through the methods that Tune calls, knows what it knew, and a resumed
    search compares later trials with the earlier ones. Its answers are ignored here: these trials have ended.
    """
    if config.rule == "none" or config.grace >= epochs:
        return FIFOScheduler()
    scheduler = _asha(config, epochs) if config.rule == "asha" else MedianScheduler(config.grace, config.least_trials)
    controller = cast(Any, None)  # neither rule uses it
    with without_cutoffs(scheduler):
        for trial in ended:
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
        """Decide after a report. A trial continues if too few others have reached its epoch."""
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
        """The mean from `grace` to `epoch`, or of all reports if none falls there."""
        within = [value for at, value in curve.items() if self._grace <= at <= epoch]
        return fmean(within or curve.values())
