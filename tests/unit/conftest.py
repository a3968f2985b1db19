"""Builders that several unit tests share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from results.trial_record import TrialRecord
from spinlock_dist.config import SimulatorConfig
from spinlock_dist.features.operators import generate_dataset
from spinlock_dist.metrics.record import Metrics

OPERATORS = 120


@pytest.fixture(scope="session")
def operators_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small file of the simulator's."""
    config = SimulatorConfig(samples=OPERATORS, grid=8, steps=8, realizations=1)
    return generate_dataset(config, tmp_path_factory.mktemp("operators") / "operators.h5", workers=1)


@pytest.fixture(scope="session")
def make_metrics() -> Callable[..., Metrics]:
    """Return a builder of metrics from FVU per category; other fields are healthy unless given."""

    def build(*fvu: float, split: str = "validation", **given: float) -> Metrics:
        named = {f"c{index}": value for index, value in enumerate(fvu)}
        worst = max(named, key=lambda name: named[name])
        imbalance = max(1.0, max(fvu) / max(min(fvu), 1e-6))
        figures = {
            "fvu_mean": sum(fvu) / len(fvu),
            "imbalance_by_chance": 1.0,
            "imbalance_raw": imbalance,
            "gini": 0.0,
            "utilization": 1.0,
            "utilization_split": 1.0,
            "perplexity_ratio": 0.8,
            "entropy_ratio": 0.9,
            "bits_per_sample": 100.0,
            "reference_imbalance": 1.0,
            "reference_distance": 1.5,
            "topographic_pre": 0.9,
            "topographic_post": 0.9,
        }
        return Metrics(
            split=split,
            fvu=named,
            mse_raw=named,
            reference_fvu=named,
            fvu_worst=max(fvu),
            worst_category=worst,
            imbalance=imbalance,
            log10_imbalance=math.log10(imbalance),
            collapsed=sum(value >= 0.98 for value in fvu),
            dead_codes=0,
            **{**figures, **given},
        )

    return build


@pytest.fixture(scope="session")
def make_record(make_metrics: Callable[..., Metrics]) -> Callable[..., TrialRecord]:
    """Return a builder of complete records from FVU per category."""

    def build(number: int, *fvu: float, **given: object) -> TrialRecord:
        fields = {"phase": "search", "arm": f"trial-{number}", "state": "complete", "seed": 0}
        metrics = make_metrics(*fvu) if fvu else None
        return TrialRecord(**{**fields, "number": number, "metrics": metrics, **given})  # type: ignore[arg-type]

    return build
