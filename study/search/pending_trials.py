"""Trials of the search that have no outcome yet, alone or in trial batches that a worker trains in lock step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import optuna

from results.records.optuna_trials import ATTEMPTS
from results.records.trial_record import Attempt, Kind
from spinlock_dist.config import TrialConfig
from spinlock_dist.run import lockstep_key
from study.cluster.resources import Resources
from study.search.optuna_internals import stored_trial
from study.worker.actor import trial_batch_name
from study.worker.device import Device
from study.worker.retry_rules import rule_of


@dataclass
class PendingTrial:
    """A trial without an outcome. `last` and `curve` are what its present attempt has reported."""

    trial: optuna.Trial
    config: TrialConfig
    attempts: list[Attempt]
    curve: list[dict[str, float]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Its number in the search."""
        return self.trial.number

    @property
    def device(self) -> Device | None:
        """What its present attempt runs on; None until it has reported."""
        return self.last.get("device")

    def take(self, report: dict[str, Any]) -> None:
        """Keep a report.

        Tune repeats the last one, and a trial that is resumed from a snapshot reports the epochs before it again: a row
        replaces those of its epoch and later ones.
        """
        self.last = {**self.last, **report}
        if "curve" not in report:
            return
        row = json.loads(report["curve"])
        self.curve = [earlier for earlier in self.curve if earlier["epoch"] < row["epoch"]] + [row]
        if len(self.trial.study.directions) > 1:
            return  # Optuna keeps no intermediate values of several objectives
        trained = int(report["trained"])
        if trained not in stored_trial(self.trial).intermediate_values:
            self.trial.report(report["fvu_worst"], trained)

    def begin_attempt(self, resources: Resources, trial_batch: str) -> None:
        """Store that an attempt begins, in `trial_batch` if the trial is not alone."""
        began = datetime.now(UTC).isoformat(timespec="seconds")
        self.attempts.append(
            Attempt(
                began=began, cpus=resources.cpus, gpus=resources.gpus, memory=resources.memory, trial_batch=trial_batch
            )
        )
        self.store_attempts()
        self.curve, self.last = [], {}

    def end_attempt(self, kind: Kind, reason: str) -> None:
        """Note how the present attempt ended."""
        self.attempts[-1] = replace(
            self.attempts[-1],
            node=self.last.get("hostname", ""),
            device=self.device.name if self.device else "",
            model=self.device.model if self.device else "",
            start=int(self.last.get("start", 0)),
            epochs=int(self.curve[-1]["epoch"]) if self.curve else 0,
            ended=True,
            kind=kind,
            reason=reason,
        )

    def store_attempts(self) -> None:
        """Store the attempts at a trial without an outcome; an outcome has them with it."""
        self.trial.set_user_attr(ATTEMPTS, [attempt.to_json() for attempt in self.attempts])


@dataclass
class TrialBatch:
    """Trials that a worker trains in lock step, often only one; those that have an outcome have left `trials`.

    Its snapshots are called `name`, so an interrupted trial batch is resumed under the same name.
    """

    name: str
    trials: list[PendingTrial]

    @classmethod
    def of(cls, trials: Sequence[PendingTrial]) -> TrialBatch:
        """A new trial batch, named after its first trial."""
        return cls(trial_batch_name([pending.number for pending in trials]), list(trials))

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return self.name.replace("-", " ")

    @property
    def shown(self) -> str:
        """What it is called on Ray's pages: its name, the strategies of its trials, and which attempt it is."""
        strategies = dict.fromkeys(pending.config.compression.strategy for pending in self.trials)
        attempt = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{self.name} {' '.join(strategies)}{attempt}"

    @property
    def attempt(self) -> int:
        """Which attempt it is, from 1: that of the trial that was tried most often."""
        return max(len(pending.attempts) for pending in self.trials)

    @property
    def alone(self) -> bool:
        """Whether it was formed of one trial."""
        return len(self.trials) == 1 and self.name == trial_batch_name([self.trials[0].number])

    def leave(self, number: int) -> PendingTrial | None:
        """Take out a trial and return it; None if it has left before."""
        found = next((pending for pending in self.trials if pending.number == number), None)
        self.trials = [pending for pending in self.trials if pending is not found]
        return found

    def split(self) -> list[TrialBatch]:
        """Its halves; of one trial, that trial alone."""
        middle = (len(self.trials) + 1) // 2
        return [TrialBatch.of(half) for half in (self.trials[:middle], self.trials[middle:]) if half]


def form_trial_batches(trials: Iterable[PendingTrial], most: int) -> list[TrialBatch]:
    """Group trials, in their order, into trial batches of at most `most` that can train in lock step.

    Those that were in one trial batch when it was interrupted come together again: they have snapshots in common.
    """
    groups: dict[tuple[str, str], list[PendingTrial]] = {}
    for pending in trials:
        last = pending.attempts[-1] if pending.attempts else None
        left = last.trial_batch if last is not None and rule_of(last.kind).resumes_together else ""
        key = "" if left else lockstep_key(pending.config)
        groups.setdefault((left, key), []).append(pending)
    trial_batches = []
    for (left, _), group in groups.items():
        if left:
            trial_batches.append(TrialBatch(left, group))
        else:
            trial_batches += [TrialBatch.of(group[start : start + most]) for start in range(0, len(group), most)]
    return trial_batches
