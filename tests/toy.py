"""A stand-in for the core, a small dataset and a small study: a whole study then takes seconds."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from spinlock_dist.config import PrepareConfig, TrainingConfig, TrialConfig
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.training.snapshot import Snapshots, State
from study.config import ClusterConfig, FinalsConfig, GuardsConfig, StoppingConfig, StudyConfig
from study.worker.trainable import Objective

Fault = Callable[[TrialConfig, int, Snapshots], None]

SPACE = """
description: A space for tests, in which the baseline itself is a trial
parameters:
  compression.strategy: {type: categorical, choices: [uniform, balanced]}
  compression.rule: {type: categorical, choices: [graded, spinlock]}
  compression.sharpness: {type: float, low: 0.5, high: 2.0}
"""

ONE_PARAMETER = """
description: A space for tests in which no two trials are the same, and none is the baseline
parameters:
  compression.sharpness: {type: float, low: 0.5, high: 2.0}
fixed:
  compression.strategy: balanced
"""


def write_dataset(path: Path) -> Path:
    """Write 300 rows of twelve columns in three correlated groups of different difficulty."""
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(300, 3))
    noise = rng.normal(size=(300, 12)) * np.repeat([0.1, 0.5, 1.0], 4)
    names = [f"summary::f{index}" for index in range(12)]
    pd.DataFrame(np.repeat(sources, 4, axis=1) + noise, columns=names).to_parquet(path)
    return path


def small_study(folder: Path, dataset: Path, space: str = SPACE, **given: Any) -> StudyConfig:
    """Return a study `s` of four trials of six epochs in `folder`, on CPUs, two at a time."""
    (folder / "space.yaml").write_text(space)
    base = TrialConfig(
        prepare=PrepareConfig(dataset=str(dataset)),
        training=TrainingConfig(epochs=6, evaluate_every=2, batch_size=64),
    )
    settings: dict[str, Any] = {
        "name": "s",
        "runs": str(folder / "runs"),
        "space": str(folder / "space.yaml"),
        "trials": 4,
        "baseline_seeds": 1,
        "finals": FinalsConfig(replicates=2, seeds=2),
        "base": base,
        "guards": GuardsConfig(utilization=0, perplexity_ratio=0),
        "stopping": StoppingConfig(rule="none"),
        "cluster": ClusterConfig(gpus=0, max_concurrent=2),
    }
    return StudyConfig(**{**settings, **given})


class Printed(io.StringIO):
    """What a study prints; `changes` are called, each once, when its words have been printed."""

    def __init__(self, **changes: Callable[[], object]):
        super().__init__()
        self._changes = {words.replace("_", " "): change for words, change in changes.items()}

    def write(self, text: str) -> int:
        for words in [words for words in self._changes if words in text]:
            self._changes.pop(words)()
        return super().write(text)


def make_toy(fault: Fault | None = None, seconds: float = 0) -> Objective:
    """Return an objective that reports falling curves, an epoch every `seconds`; before each, `fault` may do its worst
    to every member.

    It goes on from snapshots as the core does. Of what `fault` raises, errors of the core end a member, all others the
    trial batch. Functions in here are pickled by value: workers cannot import tests.
    """

    def score(config: TrialConfig, epoch: int, split: str = "validation") -> Metrics:
        offset = 0.0 if config.compression.strategy == "uniform" else 0.1 * (config.compression.sharpness - 1.2)
        worst, best = 0.5 + offset + 0.4 / epoch, 0.1
        healthy = dict.fromkeys(("utilization", "utilization_split", "perplexity_ratio", "entropy_ratio"), 1.0)
        return Metrics(
            split=split,
            fvu={"a": worst, "b": best},
            mse_raw={"a": worst, "b": best},
            fvu_mean=(worst + best) / 2,
            fvu_worst=worst,
            worst_category="a",
            imbalance=worst / best,
            log10_imbalance=float(np.log10(worst / best)),
            imbalance_by_chance=1.0,
            imbalance_raw=worst / best,
            gini=0.0,
            collapsed=0,
            dead_codes=0,
            bits_per_sample=10.0,
            reference_fvu={"a": worst, "b": best},
            reference_imbalance=worst / best,
            reference_distance=1.0,
            topographic_pre=1.0,
            topographic_post=1.0,
            **healthy,
        )

    def toy(configs: Sequence[TrialConfig], data, report, snapshots) -> list:
        earlier = snapshots.load("toy")
        begun = earlier.metadata["epoch"] if earlier else 0
        outcomes: list = [outcome_of(config) for config in configs]
        going = list(range(len(configs)))
        for epoch in range(1, configs[0].training.epochs + 1):
            for member in going if epoch > begun else ():
                try:
                    if fault is not None:
                        fault(configs[member], epoch, snapshots)
                except SpinlockError as error:
                    outcomes[member] = error
            if epoch > begun:
                time.sleep(seconds)
            going = [member for member in going if not isinstance(outcomes[member], SpinlockError)]
            made = {member: epoch_metrics(configs[member], epoch) for member in going}
            stopped = report(made) if made else set()
            for member in stopped:
                outcomes[member] = None
            going = [member for member in going if member not in stopped]
            if not going:
                break
            if snapshots.due and begun < epoch < configs[0].training.epochs:
                snapshots.save(State({}, {"epoch": epoch}))
        return outcomes

    def epoch_metrics(config: TrialConfig, epoch: int) -> EpochMetrics:
        return EpochMetrics(
            epoch=epoch,
            trained=epoch,
            finished=epoch == config.training.epochs,
            losses={"total": 1 / epoch},
            validation=score(config, epoch),
            seconds=0.1,
        )

    def outcome_of(config: TrialConfig) -> SimpleNamespace:
        def save(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "device").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))

        epochs = config.training.epochs
        return SimpleNamespace(
            validation=score(config, epochs), save=save, evaluate=lambda split: score(config, epochs, split)
        )

    return toy
