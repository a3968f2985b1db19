"""The one door to the core: `run_trial`, and `run_members` for several configurations in lock step."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spinlock_dist.checkpoint import save_checkpoint
from spinlock_dist.compression.sizing import CapacityPlan, plan_capacity
from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.config import TrialConfig
from spinlock_dist.device import resolve_device
from spinlock_dist.errors import ConfigError, DivergedError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, extract_member
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.model.trained_encoders import to_device
from spinlock_dist.prepare import PreparedData
from spinlock_dist.tokenizer import Tokenizer
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.feedback import plan_by_feedback
from spinlock_dist.training.snapshot import Snapshots
from spinlock_dist.training.trainer import Member, stored_plans, train

Report = Callable[[EpochMetrics], None]


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """A trained tokenizer and what it scored."""

    tokenizer: Tokenizer
    validation: Metrics
    """Of the weights in `tokenizer`: those of the last epoch, or of the best one with early stopping."""
    epochs: int
    seconds: float
    values: np.ndarray
    """The normalized features `[N, D]` it was trained on."""
    inputs: dict[str, np.ndarray]
    """What family encoders that trained with it saw of the same rows."""

    @property
    def config(self) -> TrialConfig:
        """The config that was run."""
        return self.tokenizer.config

    def evaluate(self, split: str) -> Metrics:
        """Return the metrics on `train`, `validation` or `test`. Only finals and export may look at `test`."""
        return self.tokenizer.evaluate_values(self.values, self.inputs, split)

    def save(self, folder: Path) -> None:
        """Write a complete checkpoint (model.safetensors + meta.json) as `folder`, atomically."""
        save_checkpoint(folder, self.tokenizer, self.validation, self.epochs)


def run_trial(
    config: TrialConfig, data: PreparedData, report: Report = lambda _: None, snapshots: Snapshots | None = None
) -> TrialOutcome:
    """Allocate capacity, train, evaluate. Calls `report` at every evaluation; what it raises ends the trial.

    With `snapshots` it goes on from where an interrupted run of the same trial was last saved, repeating its reports,
    and saves where it stands now and then. What it ends with is what it would have without the interruption.

    The same config, data and device give the same outcome; on CUDA up to the order of atomic additions in the
    codebooks' moving averages. Raises `ConfigError` for settings that contradict each other or the data,
    `DivergedError` for a non-finite loss.
    """
    [outcome] = run_members([config], data, [report], snapshots)
    if isinstance(outcome, DivergedError):
        raise outcome
    return outcome


def run_members(
    configs: Sequence[TrialConfig],
    data: PreparedData,
    reports: Sequence[Report],
    snapshots: Snapshots | None = None,
) -> list[TrialOutcome | DivergedError]:
    """Train several configurations at once, as `run_trial` would train each, up to float rounding.

    They may differ in seed, compression, loss weights and learning rate. A member that diverges gives its error.
    Raises `ConfigError` naming the first setting that differs and may not.
    """
    began = time.perf_counter()
    _check_alike(configs)
    shared = configs[0]
    device = resolve_device(shared.training.device)
    layout = GroupLayout(data.categories, device)
    prepared = EvaluationData(
        values_ND=data.values,
        grouped_NGF=layout.pack(torch.from_numpy(np.array(data.values)).to(device)),
        split=data.split,
        categories=data.categories,
        characteristics=data.characteristics,
        pipeline=data.pipeline,
        inputs=to_device(data.inputs, layout),
    )
    earlier = snapshots.load(_identity(configs, data, device)) if snapshots else None
    if earlier is None:
        planned = [_plan(config, data, prepared, layout) for config in configs]
        plans, spent = [plan for plan, _ in planned], [spent for _, spent in planned]
    else:
        plans, spent = stored_plans(earlier)
    model, members = train(configs, plans, prepared, layout, reports, spent, began, snapshots, earlier)
    return [
        _outcome(model, index, config, member, data)
        for index, (config, member) in enumerate(zip(configs, members, strict=True))
    ]


def _identity(configs: Sequence[TrialConfig], data: PreparedData, device: torch.device) -> str:
    """Return what a training is, as far as one may go on from another's snapshot, in 64 hexadecimal digits."""
    parts = [data.fingerprint, torch.__version__, device.type, *(config.model_dump_json() for config in configs)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _plan(
    config: TrialConfig, data: PreparedData, prepared: EvaluationData, layout: GroupLayout
) -> tuple[CapacityPlan, int]:
    """Return the sizes for a config, and the epochs that finding them cost.

    Raises `ConfigError` if no codebook is left with two codes: whatever was trained, tokens would carry nothing.
    """
    settings, rows = config.compression, len(data.split.train)
    plan = plan_capacity(settings, data.characteristics, rows, config.quantizer)
    if plan.bits_per_sample == 0:
        raise ConfigError(
            f"every codebook has one code: {rows} training rows, compression.min_rows_per_code "
            f"{settings.min_rows_per_code}, max_codes {settings.max_codes}; use more rows or other settings"
        )
    if get_strategy(settings.strategy).measured:
        return plan_by_feedback(config, prepared, layout, data.characteristics)
    return plan, 0


def _outcome(
    model: HierarchicalVQVAE, index: int, config: TrialConfig, member: Member, data: PreparedData
) -> TrialOutcome | DivergedError:
    if member.diverged:
        return member.diverged
    assert member.validation is not None
    tokenizer = Tokenizer(
        config=config,
        model=extract_member(model, index),
        pipeline=data.pipeline,
        categories=data.categories,
        characteristics=data.characteristics,
        fingerprint=data.fingerprint,
    )
    return TrialOutcome(
        tokenizer=tokenizer,
        validation=member.validation,
        epochs=member.epochs,
        seconds=member.seconds,
        values=data.values,
        inputs=data.inputs,
    )


_FREE: dict[str, Any] = {
    "seed": True,
    "compression": True,
    "loss": {"commitment", "informativeness", "orthogonality", "topographic"},
    "training": {"learning_rate"},
}


def _check_alike(configs: Sequence[TrialConfig]) -> None:
    first = configs[0].model_dump(exclude=_FREE)
    for config in configs[1:]:
        other = config.model_dump(exclude=_FREE)
        for section in first:
            if first[section] != other[section]:
                differing = next(name for name in first[section] if first[section][name] != other[section][name])
                raise ConfigError(f"{section}.{differing} must be the same for all configs trained together")
