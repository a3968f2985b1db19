"""The record of a trial, and the tables `trials.parquet` and `curves.parquet`: the one place that knows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from results.files import read_json, replacing, write_json
from results.front import front
from results.levelling import levelling
from results.study_folder import StudyFolder
from spinlock_dist.metrics.record import Metrics

Phase = Literal["baseline", "warm", "search", "final", "verification"]
"""`warm`: a trial of an earlier study that this one learned from."""
State = Literal["complete", "pruned", "diverged", "refused", "failed"]
"""`pruned`: stopped early by the scheduler. `diverged`: a loss was not finite. `refused`: the config contradicts
itself or the data. `failed`: a fault of code or machine."""
Kind = Literal[
    "",
    "exception",
    "non-finite",
    "refused",
    "out of memory",
    "worker lost",
    "node lost",
    "driver lost",
    "interrupted",
    "storage",
    "collapsed codebook",
]
"""What went wrong with a trial or an attempt at it; empty if nothing did."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a trial; there are more where a process, a node or the driver was lost, or memory ran out."""

    began: str
    """ISO 8601, to the second."""
    cpus: int = 1
    gpus: float = 0
    memory: int = 0
    """Bytes set aside for it; 0 if nothing was said of them."""
    node: str = ""
    start: int = 0
    """Epoch of the snapshot it went on from; 0 from the start."""
    epochs: int = 0
    """The last one it reported."""
    ended: bool = False
    """False while it runs."""
    kind: Kind = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial: what it was asked, what it scored, how it ended."""

    phase: Phase
    arm: str
    """`baseline`, or `trial-<number>` for a trial of the search and its final replicates; of an earlier study
    `<study>/trial-<number>`, in a tournament `<search>/trial-<number>`."""
    number: int
    """Of the trial within its phase; in `baseline` and `final`, of the replicate."""
    state: State
    seed: int
    params: dict[str, Any] = field(default_factory=dict)
    """Searched settings by dotted name."""
    metrics: Metrics | None = None
    """Of the last report, for a trial that made one."""
    test: Metrics | None = None
    """On the test rows; only finals and verification have it."""
    guards: dict[str, float] = field(default_factory=dict)
    """By name, in relative units; at most 0 when kept. Of finals on the test rows, against the same replicate's
    baseline."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry a report: epoch, seconds, `loss.<term>` and the scalar validation metrics."""
    epochs: int = 0
    lost: list[str] = field(default_factory=list)
    """Features of the study that the training rows of this replicate do not vary in; only finals can have any."""
    seconds: float = 0.0
    node: str = ""
    reason: str = ""
    """Why the trial did not complete."""
    kind: Kind = ""
    attempts: list[Attempt] = field(default_factory=list)
    """Only trials of the search have them."""
    checkpoint: str = ""
    """Digest of the checkpoint's folder as it was written; only complete trials of the search have one."""

    @property
    def feasible(self) -> bool:
        """Whether the trial completed, not collapsed and with every guard kept."""
        return self.state == "complete" and not self.kind and all(value <= 0 for value in self.guards.values())

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrialRecord:
        """Return the record that `to_json` made `content` of."""
        metrics = {part: Metrics(**content[part]) for part in ("metrics", "test") if content[part] is not None}
        attempts = [Attempt(**attempt) for attempt in content.get("attempts", [])]
        return cls(**{**content, **metrics, "attempts": attempts})


def full_arm(search: str, arm: str) -> str:
    """Return what a trial is called beside those of other searches: `feedback/trial-5`; `trial-5` of the only one."""
    return f"{search}/{arm}" if search else arm


def arm_of(arm: str) -> str:
    """Return the search that `full_arm` put before a trial, empty for the only one."""
    return arm.rpartition("/")[0]


def write_records(path: Path, records: Sequence[TrialRecord]) -> None:
    """Write the records of a phase as JSON, atomically."""
    write_json(path, [record.to_json() for record in records])


def read_records(path: Path) -> list[TrialRecord]:
    """Return what `write_records` wrote."""
    return [TrialRecord.from_json(content) for content in read_json(path)]


def feasible_records(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the feasible records by imbalance, the earlier of equals first."""
    feasible = [record for record in records if record.feasible and record.metrics is not None]
    return sorted(feasible, key=lambda record: (_imbalance(record), record.number))


def best_record(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the feasible record of lowest imbalance, the earlier of equals; None if none is feasible."""
    return next(iter(feasible_records(records)), None)


def _imbalance(record: TrialRecord) -> float:
    assert record.metrics is not None
    return record.metrics.log10_imbalance


# ---------------------------------------------------------------- tables

TRIAL = ("phase", "arm", "number")
"""Columns that name a trial in both tables."""
JOURNALS = "journals"
"""Attribute of both tables: bytes of the journals when they were written."""


def write_tables(folder: StudyFolder, records: Sequence[TrialRecord]) -> None:
    """Write both tables of a study anew, atomically. They know how long its journals were, so how new they are."""
    baselines = {(record.phase, record.number): record for record in records if record.arm == "baseline"}
    reports = [
        {"phase": record.phase, "arm": record.arm, "number": record.number, **report}
        for record in records
        for report in record.curve
    ]
    on_front = front([record for record in records if record.phase == "search"])
    rows = [
        _row(record) | {"front": any(record is each for each in on_front)} | _levelling(record, baselines)
        for record in records
    ]
    for path, rows_of in ((folder.trials, rows), (folder.curves, reports)):
        table = pd.DataFrame(rows_of)
        table.attrs[JOURNALS] = journal_sizes(folder)
        with replacing(path) as draft:
            table.to_parquet(draft, index=False)


def journal_sizes(folder: StudyFolder) -> int:
    """Return the length of a study's journals together, in bytes: they only ever grow."""
    return sum(path.stat().st_size for path in folder.journals.values())


def read_tables(folder: StudyFolder) -> tuple[list[TrialRecord], bool]:
    """Return the records that `write_tables` wrote, and whether the journals are still as they were then.

    Raises `OSError` or `ValueError` if a table is missing or damaged.
    """
    trials, curves = read_trials(folder.trials), read_curves(folder.curves)
    reports: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for row in curves.to_dict("records"):
        report = {str(name): value for name, value in row.items() if name not in TRIAL and value == value}
        reports.setdefault(tuple(row[name] for name in TRIAL), []).append(report)
    try:
        records = [TrialRecord.from_json(json.loads(record)) for record in trials["record"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a table of this version: {error}") from None
    whole = [replace(each, curve=reports.get((each.phase, each.arm, each.number), [])) for each in records]
    return whole, trials.attrs.get(JOURNALS) == journal_sizes(folder)


def read_trials(path: Path) -> pd.DataFrame:
    """Return trials.parquet.

    Columns: phase, arm, number, state, feasible, seed, epochs, seconds, node, kind, reason, attempts (how many), story
    (the attempts as JSON text), front (whether no feasible trial beats it in imbalance, mean FVU and utilization at
    once), the scalar validation metrics by name, `test.<metric>`, `fvu.<category>`, `guard.<name>`,
    `levelling.worst_helped` and `levelling.best_hurt` (gains in log10 imbalance against the baseline; of finals on the
    test rows, against the same replicate's), `param.<setting>` as JSON text (the settings of one space have different
    types), and `record`, the whole but for the curve as JSON text.
    """
    return pd.read_parquet(path)


def read_curves(path: Path) -> pd.DataFrame:
    """Return curves.parquet: phase, arm, number, epoch, trained, seconds, `loss.<term>`, scalar validation metrics.

    `trained` is `epoch` without the epochs of pilots.
    """
    return pd.read_parquet(path)


def _row(record: TrialRecord) -> dict[str, Any]:
    plain = ("phase", "arm", "number", "state", "feasible", "seed", "epochs", "seconds", "node", "kind", "reason")
    row: dict[str, Any] = {name: getattr(record, name) for name in plain}
    row |= {"attempts": len(record.attempts), "story": json.dumps([asdict(attempt) for attempt in record.attempts])}
    if record.metrics is not None:
        row |= record.metrics.scalars()
        row |= {f"fvu.{category}": value for category, value in record.metrics.fvu.items()}
    if record.test is not None:
        row |= {f"test.{name}": value for name, value in record.test.scalars().items()}
    row |= {f"guard.{name}": value for name, value in record.guards.items()}
    row |= {f"param.{name}": json.dumps(value) for name, value in record.params.items()}
    return row | {"record": json.dumps({**record.to_json(), "curve": []})}


def _levelling(record: TrialRecord, baselines: dict[tuple[Phase, int], TrialRecord]) -> dict[str, float]:
    """Return the levelling-down meter: of the search against the first baseline, of finals against their pair's."""
    is_final = record.phase == "final"
    base = baselines.get(("final", record.number) if is_final else ("baseline", 0))
    ours = record.test if is_final else record.metrics
    theirs = None if base is None else base.test if is_final else base.metrics
    if ours is None or theirs is None:
        return {}
    return {f"levelling.{name}": value for name, value in asdict(levelling(ours, theirs)).items()}
