"""When a search ends before it has run the trials asked for, and how one that has ended is extended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from results.analysis.pareto import dominates
from results.records.optuna_trials import PENALTY, attributes_of, finished_trials
from results.records.trial_record import TrialRecord
from study.cluster.resources import ResourceError, Resources
from study.config import StudyConfig, UntilConfig
from study.events import StudyEvents
from study.search.expected_gain import expected_gain, in_words
from study.search.optuna_internals import trial_at

EVERY = 4
"""Trials between two estimates of what more of them would gain."""


KEEP_SECONDS = 5.0
"""Between two times at which the hours spent are stored."""
REACHED = "limit reached"
"""Attribute of a study: the limits under which one was reached, and which."""


class StopCriteria(StudyEvents):
    """The limits of a search, over all runs of a study; `reason` says which is reached.

    One that is reached stays so, whatever becomes of the trials that still run: it is kept in the storage, and so is
    the last estimate of what more trials would gain. A resumed search then ends where it would have undisturbed.

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
        self._counts = (until.imbalance, until.no_improvement, until.gain) != (None, None, None)
        """Whether there is a limit that trials reach."""
        self._progress: Progress | None = None
        self._untold: set[int] = set()
        """Trials that ended since `_progress` was looked at; Optuna may not have been told of them yet."""
        self._estimate_key = f"expected gain since {until.since}"
        self._estimate: dict[str, Any] = study.user_attrs.get(self._estimate_key, {"trials": 0, "gain": None})
        self._limits = until.model_dump(mode="json")
        reached = study.user_attrs.get(REACHED, {})
        self._reached: str | None = reached["reason"] if reached.get("until") == self._limits else None

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
        if self._counts:
            self._untold.add(record.number)
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Store what was spent, so that a resumed search counts on."""
        self._kept = time.monotonic()
        self._study.set_user_attr(self._key, self.spent())

    def reason(self) -> str | None:
        """Which limit was reached first; None if none was."""
        spent = self.spent()
        if self._reached is None and (found := self._reason_now(spent)) is not None:
            self._reached = found
            self._study.set_user_attr(REACHED, {"until": self._limits, "reason": found})
        return self._reached

    def _reason_now(self, spent: Mapping[str, float]) -> str | None:
        until = self._until
        for name, limit in (("hours", until.hours), ("gpu_hours", until.gpu_hours)):
            if limit is not None and spent[name] >= limit:
                return f"{limit:g} {name.replace('gpu_', 'GPU-')} of search are spent"
        if not self._counts:
            return None
        progress = self._followed()
        if until.gain is not None and (found := self._small_gain(until.gain, progress.count)):
            return found
        return progress.reason()

    def _followed(self) -> Progress:
        """What the trials have come to by now, without another look at those that were seen before."""
        if self._progress is None:
            self._progress, told = Progress(self._until), finished_trials(self._study)
        else:
            known = [trial_at(self._study, number) for number in self._untold]
            told = [trial for trial in known if trial.state.is_finished()]
        self._untold -= {trial.number for trial in told}
        for trial in sorted(told, key=lambda trial: (trial.datetime_complete, trial.number)):
            self._progress.add(trial)
        return self._progress

    def _small_gain(self, limit: float, ended: int) -> str | None:
        """What more trials would gain if that is too little, by the last estimate: one takes a fifth of a second."""
        count = ended - self._until.since
        if count >= self._estimate["trials"] + EVERY:
            self._estimate = {"trials": count - count % EVERY, "gain": expected_gain(self._study)}
            self._study.set_user_attr(self._estimate_key, self._estimate)
        gain = self._estimate["gain"]
        if gain is None or gain >= limit:
            return None
        return f"{in_words(gain)}, the limit is {limit:.1%}"


def _imbalance(trial: FrozenTrial) -> float:
    """Its estimate: what the sampler was told, without the penalty."""
    return float(10 ** (trial.values[0] - attributes_of(trial).get(PENALTY, 0.0)))


class Progress:
    """What the trials of a search have come to; they are added in the order in which they ended."""

    def __init__(self, until: UntilConfig):
        self.count = 0
        self._until = until
        self._improved = 0
        """The count at the last feasible trial such that none before was as good in everything that is minimized."""
        self._front: list[list[float]] = []
        self._target = ""

    def add(self, trial: FrozenTrial) -> None:
        """Count a trial."""
        self.count += 1
        if not _feasible(trial):
            return
        target = self._until.imbalance
        new = self.count > self._until.since and not self._target
        if new and target is not None and (imbalance := _imbalance(trial)) <= target:
            self._target = f"trial {trial.number} has imbalance {imbalance:.2f}x, the target is {target:g}x"
        if not any(other == trial.values or dominates(other, trial.values) for other in self._front):
            self._front = [other for other in self._front if not dominates(trial.values, other)] + [trial.values]
            self._improved = self.count

    def reason(self) -> str | None:
        """Which limit the trials reached; None if none."""
        if self._target:
            return self._target
        limit, without = self._until.no_improvement, self.count - max(self._improved, self._until.since)
        return f"{limit} trials in a row brought no improvement" if limit is not None and without >= limit else None


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
