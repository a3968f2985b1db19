"""The record of a trial: its searched settings, its scores and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from spinlock_dist.atomic_files import read_json, write_json
from spinlock_dist.metrics.record import Metrics

Phase = Literal["baseline", "warm", "search", "final", "verification"]
"""`warm`: a prior trial, from an earlier study that this one started from."""
State = Literal["complete", "pruned", "diverged", "refused", "failed"]
"""`pruned`: stopped early by the scheduler. `diverged`: a loss was not finite. `refused`: the config is
inconsistent in itself or with the data. `failed`: an error of the code or the machine."""
Kind = str
"""What went wrong with a trial or an attempt at it: a name in `study.worker.retry_rules.RETRY_RULES` or
`collapsed codebook` or `duplicate` of another trial; empty if nothing did."""


Word = Literal["better", "more even, but worse", "no difference shown", "worse"]
"""The verdict on a finalist, from best to worst: `results.verdict.verdict`."""

BASELINE = "baseline"
"""Arm of the uniform baseline."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a trial. There are several if a process, a node or the driver was lost or memory ran out."""

    began: str
    """ISO 8601, to the second."""
    cpus: int = 1
    gpus: float = 0
    memory: int = 0
    """Bytes reserved for it; 0 if none were."""
    trial_batch: str = ""
    """Shared by trials that were trained in lock step; empty if it trained alone."""
    node: str = ""
    device: str = ""
    """`GPU 3`, by Ray's number on its node, or `CPU`; empty if it reported nothing."""
    model: str = ""
    """Of the device."""
    start: int = 0
    """Epoch of the snapshot it resumed from; 0 if it started afresh."""
    epochs: int = 0
    """Last epoch reported."""
    ended: bool = False
    """False while it is running."""
    kind: Kind = ""
    reason: str = ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Attempt:
        """The attempt stored as `content`; one of an earlier version calls its trial batch `pack`."""
        return cls(**{"trial_batch" if name == "pack" else name: value for name, value in content.items()})

    def to_json(self) -> dict[str, Any]:
        """The attempt as plain data, without what is as it is by default."""
        defaults = {each.name: each.default for each in fields(self)}
        return {name: value for name, value in vars(self).items() if value != defaults[name]}


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial: its searched settings, its scores and how it ended."""

    phase: Phase
    arm: str
    """`baseline`, or `trial-<number>` for a trial of the search and its final replicates; of an earlier study
    `<study>/trial-<number>`, in a tournament `<search>/trial-<number>`. In finals also `control-<number>`, uniform
    ratios with that trial's training settings, and `plain-feedback`."""
    number: int
    """Of the trial within its phase; in `baseline` and `final`, of the replicate."""
    state: State
    seed: int
    params: dict[str, Any] = field(default_factory=dict)
    """Searched settings by dotted name."""
    metrics: Metrics | None = None
    """Of the last report, if there was one."""
    test: Metrics | None = None
    """On the test rows; only finals and verification have it."""
    guards: dict[str, float] = field(default_factory=dict)
    """By name, in relative units; at most 0 when kept. Finals have none: the verdict compares them."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry a report: epoch, seconds, `loss.<term>`, the scalar validation metrics; in that of several `folds`."""
    epochs: int = 0
    seconds: float = 0.0
    node: str = ""
    device: str = ""
    """Where the last attempt ran: `GPU 3`, by Ray's number on its node, or `CPU`."""
    model: str = ""
    """Of the device."""
    reason: str = ""
    """Why the trial did not complete."""
    kind: Kind = ""
    attempts: list[Attempt] = field(default_factory=list)
    """Only trials of the search have them."""
    checkpoint: str = ""
    """Digest of the checkpoint's folder as it was written; only complete trials of the search have one."""
    identity: str = ""
    """Of config and data (`results.records.identity`); those of the search have it in their parameters and storage."""

    def __repr__(self) -> str:
        name = self.arm if self.phase == "search" else f"{self.phase} {self.arm} {self.number}"
        known = [name, self.kind or self.state, self.broken_guards and "infeasible"]
        if self.metrics is not None:
            known.append(f"imbalance {self.metrics.in_words('imbalance')}, worst {self.metrics.in_words('fvu_worst')}")
        return f"<{', '.join(filter(None, known))}>"

    @property
    def feasible(self) -> bool:
        """Whether the trial completed, not collapsed and with every guard kept."""
        return self.state == "complete" and not self.kind and all(value <= 0 for value in self.guards.values())

    @property
    def learning_curve(self) -> list[dict[str, float]]:
        """The reports of one training: not the one in which the figures of all folds come together."""
        return [row for row in self.curve if row.get("folds", 1) == 1]

    @property
    def broken_guards(self) -> str:
        """Names of the guards that the trial breaks, empty if it keeps them all."""
        return ", ".join(name for name, value in self.guards.items() if value > 0)

    def to_json(self) -> dict[str, Any]:
        """The record as plain data, which shares its parts with it: to copy them takes milliseconds."""
        metrics = {"metrics": self.metrics, "test": self.test}
        plain = {name: each and each.to_json() for name, each in metrics.items()}
        return vars(self) | plain | {"attempts": [vars(attempt) for attempt in self.attempts]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrialRecord:
        """The record stored as `content`; one of an earlier version's finals names features that it `lost`."""
        metrics = {part: Metrics.from_json(content[part]) for part in ("metrics", "test") if content[part] is not None}
        attempts = [Attempt.from_json(attempt) for attempt in content.get("attempts", [])]
        known = {name: value for name, value in content.items() if name != "lost"}
        return cls(**{**known, **metrics, "attempts": attempts})


def full_arm(search: str, arm: str) -> str:
    """A trial's name among all searches: `feedback/trial-5` in a tournament, else `trial-5`."""
    return f"{search}/{arm}" if search else arm


def arm_of(arm: str) -> str:
    """The search in a trial's full name; empty outside a tournament."""
    return arm.rpartition("/")[0]


def write_records(path: Path, records: Sequence[TrialRecord]) -> None:
    """Write the records of a phase as JSON, atomically."""
    write_json(path, [record.to_json() for record in records])


def read_records(path: Path) -> list[TrialRecord]:
    """The records of a phase."""
    return [TrialRecord.from_json(content) for content in read_json(path)]


def feasible_records(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The feasible records by the estimate of their imbalance, the earlier of equals first."""
    feasible = [record for record in records if record.feasible and record.metrics is not None]
    return sorted(feasible, key=lambda record: (_imbalance(record), record.number))


def best_record(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The feasible record of lowest imbalance, the earlier of equals; None if none is feasible."""
    return next(iter(feasible_records(records)), None)


def ranking(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The completed trials, feasible before infeasible, each by imbalance."""
    completed = [record for record in records if record.state == "complete" and record.metrics is not None]
    return sorted(completed, key=lambda record: (not record.feasible, _imbalance(record), record.number))


def _imbalance(record: TrialRecord) -> float:
    assert record.metrics is not None
    return record.metrics.estimate("imbalance")
