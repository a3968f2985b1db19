"""The one door to the core: `run_trial`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spinlock_dist.config import TrialConfig
from spinlock_dist.prepare import PreparedData
from spinlock_dist.metrics.record import EpochMetrics, Metrics

Report = Callable[[EpochMetrics], None]


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """A trained tokenizer and what it scored."""

    config: TrialConfig
    validation: Metrics
    """Of the weights in `model`: those of the last epoch, or of the best one with early stopping."""
    epochs: int
    seconds: float

    def evaluate(self, split: str) -> Metrics:
        """Return the metrics on `train`, `validation` or `test`. Only finals and export may look at `test`."""
        raise SystemExit("being written")

    def save(self, folder: Path) -> None:
        """Write a complete checkpoint (model.safetensors + meta.json) into `folder`, atomically."""
        raise SystemExit("being written")


def run_trial(config: TrialConfig, data: PreparedData, report: Report = lambda _: None) -> TrialOutcome:
    """Allocate capacity, train, evaluate. Calls `report` at every evaluation.

    Raises `ConfigError` for settings that contradict each other or the data, `DivergedError` for a non-finite loss.
    """
    raise SystemExit("being written")
