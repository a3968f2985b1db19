"""When a search ends before it has run the trials asked for, and how one that has ended is extended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from results.analysis.pareto import dominates
from results.records.optuna_trials import PENALTY, attributes_of, finished_trials
from results.records.trial_record import TrialRecord
from study.cluster.resources import ResourceError, Resources
from study.config import StudyConfig, UntilConfig
from study.events import StudyEvents
from study.search.expected_gain import expected_gain, in_words

EVERY = 4
"""Trials between two estimates of what more of them would gain."""


KEEP_SECONDS = 5.0
"""Between two times at which the hours spent are stored."""


class StopCriteria(StudyEvents):
    """The limits of a search, over all runs of a study; `reason` says which is reached.

    Hours are those that drivers spent searching, kept in the storage under the trial from which they count. `gpus` says
    how many GPUs the study occupies now.
    """

    def __init__(self, until: UntilConfig, study: optuna.Study, gpus: Callable[[], float] = lambda: 0.0):
        self._until = until
        self._study = study
        self._gpus = gpus
        self._key = f"searched since {until.since}"
        self._spent: dict[str, float] = study.user_attrs.get(self._key, {"hours": 0.0, "gpu_hours": 0.0})
        self._counted = self._kept = time.monotonic()
        self._estimated = 0
        self._gain: float | None = None

    def spent(self) -> dict[str, float]:
        """Hours of search, and GPU-hours: hours times the GPUs that the study occupies."""
        now = time.monotonic()
        hours, self._counted = (now - self._counted) / 3600, now
        self._spent = {
            "hours": self._spent["hours"] + hours,
            "gpu_hours": self._spent["gpu_hours"] + hours * self._gpus(),
        }
        return self._spent

    def on_trial_end(self, record: TrialRecord) -> None:
        """Store the hours spent, now and then: a driver that is killed loses at most those since the last trial ended,
        and a few seconds."""
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Store what was spent, so that a resumed search counts on."""
        self._kept = time.monotonic()
        self._study.set_user_attr(self._key, self.spent())

    def reason(self) -> str | None:
        """Which limit is reached; None if none is."""
        until, spent = self._until, self.spent()
        for name, limit in (("hours", until.hours), ("gpu_hours", until.gpu_hours)):
            if limit is not None and spent[name] >= limit:
                return f"{limit:g} {name.replace('gpu_', 'GPU-')} of search are spent"
        if until.imbalance is None and until.no_improvement is None and until.gain is None:
            return None
        if until.gain is not None and (found := self._small_gain(until.gain)):
            return found
        ended = sorted(finished_trials(self._study), key=lambda trial: (trial.datetime_complete, trial.number))
        return reached(until, ended)

    def _small_gain(self, limit: float) -> str | None:
        """What more trials would gain if that is too little, by the last estimate: one takes a fifth of a second."""
        count = len(finished_trials(self._study)) - self._until.since
        if count >= self._estimated + EVERY:
            self._estimated = count - count % EVERY
            self._gain = expected_gain(self._study)
        if self._gain is None or self._gain >= limit:
            return None
        return f"{in_words(self._gain)}, the limit is {limit:.1%}"


def _imbalance(trial: FrozenTrial) -> float:
    """Its estimate: what the sampler was told, without the penalty."""
    return float(10 ** (trial.values[0] - attributes_of(trial).get(PENALTY, 0.0)))


def reached(until: UntilConfig, ended: Sequence[FrozenTrial]) -> str | None:
    """Which limit the trials reached, in the order in which they ended; None if none."""
    new = ended[until.since :]
    if until.imbalance is not None:
        for trial in new:
            if _feasible(trial) and (imbalance := _imbalance(trial)) <= until.imbalance:
                return f"trial {trial.number} has imbalance {imbalance:.2f}x, the target is {until.imbalance:g}x"
    if until.no_improvement is not None and _without_improvement(ended, len(new)) >= until.no_improvement:
        return f"{until.no_improvement} trials in a row brought no improvement"
    return None


def _without_improvement(ended: Sequence[FrozenTrial], new: int) -> int:
    """How many of the last `new` trials ended after the last improvement.

    A feasible trial improves on those before it if none of them is as good in everything that is minimized.
    """
    front: list[list[float]] = []
    last = 0
    for count, trial in enumerate(ended, 1):
        if not _feasible(trial):
            continue
        if not any(other == trial.values or dominates(other, trial.values) for other in front):
            front = [other for other in front if not dominates(trial.values, other)] + [trial.values]
            last = count
    return min(len(ended) - last, new)


def _feasible(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and all(value <= 0 for value in trial.constraints.values())


def check_stop_criteria(until: UntilConfig, resources: Resources) -> None:
    """Raise `ResourceError` for a limit that could never be reached."""
    if until.gpu_hours is not None and resources.gpus == 0:
        raise ResourceError("--max-gpu-hours: this study runs on CPU and would never reach it; use --max-hours")


def with_more_trials(config: StudyConfig, study: optuna.Study, more: int) -> StudyConfig:
    """The config for `more` trials than those of `study` that have an outcome; limits count from there."""
    done = len(finished_trials(study))
    until = config.until.model_copy(update={"since": done})
    return config.model_copy(update={"trials": done + more, "until": until})
