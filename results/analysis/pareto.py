"""The Pareto front of a study: the feasible trials that no other feasible trial dominates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spinlock_dist.metrics.record import Metrics

if TYPE_CHECKING:
    from results.records.study_record import StudyRecord
    from results.records.trial_record import TrialRecord


def objectives(metrics: Metrics) -> tuple[float, float, float]:
    """What a study minimizes, as estimated: log10 imbalance; with several objectives also mean FVU and -utilization."""
    return math.log10(metrics.estimate("imbalance")), metrics.estimate("fvu_mean"), -metrics.utilization


def told_values(metrics: Metrics, penalty: float, count: int) -> tuple[float, ...]:
    """The first `count` objectives as a sampler is told them: with the penalty of a trial that may break a guard."""
    first, *others = objectives(metrics)
    return (first + penalty, *others)[:count]


def front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The feasible records that none dominates, by imbalance; of equal ones, all.

    One dominates another if it is no worse in any of the `objectives` and better in one.
    """
    scored = [(record, objectives(record.metrics)) for record in records if record.feasible and record.metrics]
    found: list[tuple[TrialRecord, tuple[float, ...]]] = []
    for record, mine in sorted(scored, key=lambda each: (each[1], each[0].number)):  # after all that may dominate it
        if not any(dominates(other, mine) for _, other in found):
            found.append((record, mine))
    return [record for record, _ in found]


def study_front(study: StudyRecord) -> list[TrialRecord]:
    """The Pareto front of a study that searched for one, by imbalance; empty for any other study."""
    return front(study.search) if study.description["config"].get("objective") == "pareto" else []


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is at most `other` everywhere and below it somewhere."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
