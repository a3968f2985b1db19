"""What the trials of each strategy came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from results.records.settings import TrialSettings
from results.records.trial_record import TrialRecord, best_record


@dataclass(frozen=True, kw_only=True)
class StrategyRow:
    """What trials of one strategy came to."""

    strategy: str
    trials: int
    complete: int
    feasible: int
    best: TrialRecord | None
    """Feasible and of lowest imbalance."""
    median_imbalance: float | None
    """Of those that completed."""


def by_strategy(search: Sequence[TrialRecord], settings: TrialSettings) -> list[StrategyRow]:
    """A row for each strategy that was tried, the one with the best trial first."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in search:
        groups.setdefault(settings.strategy(record), []).append(record)
    rows = []
    for strategy, records in groups.items():
        scores = [
            each.metrics.estimate("imbalance")
            for each in records
            if each.state == "complete" and each.metrics is not None
        ]
        rows.append(
            StrategyRow(
                strategy=strategy,
                trials=len(records),
                complete=len(scores),
                feasible=sum(record.feasible for record in records),
                best=best_record(records),
                median_imbalance=median(scores) if scores else None,
            )
        )
    return sorted(rows, key=lambda row: (_imbalance(row.best), row.median_imbalance or math.inf))


def _imbalance(record: TrialRecord | None) -> float:
    return record.metrics.estimate("imbalance") if record and record.metrics else math.inf
