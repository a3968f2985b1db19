"""What a trial was asked to do, in words."""

from __future__ import annotations

from results.records.trial_record import TrialRecord
from spinlock_dist.compression.strategies import STRATEGIES


def settings(record: TrialRecord) -> str:
    """Return the choices of a trial in a few words, e.g. `balanced graded codes`; no rule where a strategy has none."""
    strategy = STRATEGIES.get(record.params.get("compression.strategy", ""))
    idle = {"compression.rule"} if strategy and not strategy.has_rule else set()
    return " ".join(value for name, value in record.params.items() if isinstance(value, str) and name not in idle)
