"""Trials of the search that have no outcome yet, alone or in packs that a worker trains in lock step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import optuna

from results.records.trial_record import Attempt, Kind
from spinlock_dist.config import TrialConfig
from spinlock_dist.run import lockstep_key
from study.cluster.resources import Resources
from study.search.storage import keep_attempts
from study.worker import retry_policy
from study.worker.actor import pack_name


@dataclass
class OpenTrial:
    """A trial without an outcome. `last` and `curve` are what its present attempt said."""

    trial: optuna.Trial
    config: TrialConfig
    attempts: list[Attempt]
    curve: list[dict[str, float]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Its number in the search."""
        return self.trial.number

    def take(self, report: dict[str, Any]) -> None:
        """Keep a report. One that Tune repeats is dropped; a restarted trial begins a new curve."""
        self.last = {**self.last, **report}
        if "curve" not in report:
            return
        row = json.loads(report["curve"])
        self.curve = [earlier for earlier in self.curve if earlier["epoch"] < row["epoch"]] + [row]
        if len(self.trial.study.directions) > 1:
            return  # Optuna keeps no intermediate values of several objectives
        trained = int(report["trained"])
        if trained not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(report["fvu_worst"], trained)

    def begin_attempt(self, room: Resources, pack: str) -> None:
        """Write down that an attempt begins, in `pack` if it is not alone."""
        began = datetime.now(UTC).isoformat(timespec="seconds")
        self.attempts.append(Attempt(began=began, cpus=room.cpus, gpus=room.gpus, memory=room.memory, pack=pack))
        keep_attempts(self.trial.study, self.trial._trial_id, self.attempts)
        self.curve, self.last = [], {}

    def end_attempt(self, kind: Kind, reason: str) -> None:
        """Write down how the present attempt ended."""
        self.attempts[-1] = replace(
            self.attempts[-1],
            node=self.last.get("hostname", ""),
            start=int(self.last.get("start", 0)),
            epochs=int(self.curve[-1]["epoch"]) if self.curve else 0,
            ended=True,
            kind=kind,
            reason=reason,
        )
        keep_attempts(self.trial.study, self.trial._trial_id, self.attempts)


@dataclass
class Pack:
    """Trials that a worker trains in lock step, often only one. Those that got their outcome have left `trials`.

    `name` is that of its snapshots. What an interrupted pack leaves goes on under the same name.
    """

    name: str
    trials: list[OpenTrial]

    @classmethod
    def of(cls, trials: Sequence[OpenTrial]) -> Pack:
        """Return a new pack."""
        return cls(pack_name([opened.number for opened in trials]), list(trials))

    @property
    def alone(self) -> bool:
        """Whether it was formed of one trial."""
        return len(self.trials) == 1 and self.name == pack_name([self.trials[0].number])

    def leave(self, number: int) -> OpenTrial | None:
        """Take a trial out; None if it has left before."""
        found = next((opened for opened in self.trials if opened.number == number), None)
        self.trials = [opened for opened in self.trials if opened is not found]
        return found

    def split(self) -> list[Pack]:
        """Return its halves; of one trial, that trial alone."""
        middle = (len(self.trials) + 1) // 2
        return [Pack.of(half) for half in (self.trials[:middle], self.trials[middle:]) if half]


def form_packs(trials: Iterable[OpenTrial], most: int) -> list[Pack]:
    """Group trials, in their order, into packs of at most `most` that can train in lock step.

    Those that were in one pack when it was interrupted come together again: they have snapshots in common.
    """
    groups: dict[tuple[str, str], list[OpenTrial]] = {}
    for opened in trials:
        last = opened.attempts[-1] if opened.attempts else None
        left = last.pack if last is not None and last.kind in retry_policy.GOES_ON else ""
        key = "" if left else lockstep_key(opened.config)
        groups.setdefault((left, key), []).append(opened)
    packs = []
    for (left, _), group in groups.items():
        if left:
            packs.append(Pack(left, group))
        else:
            packs += [Pack.of(group[start : start + most]) for start in range(0, len(group), most)]
    return packs
