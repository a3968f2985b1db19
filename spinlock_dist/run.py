"""Entry points of the core: `run_trial`, and `run_members` for several configurations in lock step."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spinlock_dist.checkpoint import save_checkpoint
from spinlock_dist.checkpoint_metadata import FORMAT_VERSION
from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity
from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.config import TrialConfig
from spinlock_dist.device import resolve_device
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.live_settings import settled
from spinlock_dist.memory import require_memory
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.metrics.score import score
from spinlock_dist.metrics.scored import Scored
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.prepare import PreparedData
from spinlock_dist.tokenizer import Tokenizer
from spinlock_dist.training.engine import choose_engine
from spinlock_dist.training.evaluation import EvaluationData, reconstructed
from spinlock_dist.training.member import Member, config_hash, further, restored_members
from spinlock_dist.training.snapshot import Snapshots, State
from spinlock_dist.training.trainer import MembersReport, Session, train
from spinlock_dist.training.warm_up import warm_up

Report = Callable[[EpochMetrics], None]
WEIGHT_BYTES = 4 * 4
"""Of a weight in training: float32, with its gradient and two moments of Adam."""


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """A trained tokenizer and what it scored."""

    tokenizer: Tokenizer
    validation: Metrics
    """Of the weights in `tokenizer`: those of the last epoch, or of the best one with early stopping."""
    engine: str
    """What trained it: `compiled` or `torch`."""
    epochs: int
    seconds: float
    data: PreparedData
    """What it was trained on."""
    first_fold: Metrics | None = None
    """Of these weights on the validation rows of their own fold, where `validation` is of several folds."""
    state: State | None = None
    """Where the training ended, if it was to be kept: `run_members` goes on from there."""

    @property
    def config(self) -> TrialConfig:
        """The config that was run."""
        return self.tokenizer.config

    def evaluate(self, split: str) -> Metrics:
        """The metrics on `train`, `validation` or `test`. Only finals and export may look at `test`."""
        return score(self.reconstructed(split))

    def reconstructed(self, split: str) -> Scored:
        """The rows of a split as it reconstructs them."""
        [scored] = reconstructed(self.tokenizer.model, _on_device(self.data, self.tokenizer.model.layout), split)
        return scored

    def save(self, folder: Path) -> None:
        """Write a complete checkpoint (model.safetensors + meta.json) as `folder`, atomically; with where the training
        ended, if that was kept."""
        metrics = self.first_fold or self.validation
        save_checkpoint(folder, self.tokenizer, metrics, self.epochs, self.engine, self.state)


def run_trial(
    config: TrialConfig, data: PreparedData, report: Report = lambda _: None, snapshots: Snapshots | None = None
) -> TrialOutcome:
    """Allocate capacity, train, evaluate. Calls `report` at every evaluation; what it raises ends the trial.

    With `snapshots` it resumes where an interrupted run of the same trial was last saved, making its reports again,
    and saves now and then. The outcome is the one it would have had without the interruption.

    The same config, data and device give the same outcome; on CUDA up to the order of atomic additions in the
    codebooks' moving averages. Raises `ConfigError` for settings that contradict each other or the data,
    `DivergedError` for a loss, gradient or metric that is not finite.
    """

    def report_it(made: Mapping[int, EpochMetrics]) -> tuple[()]:
        report(made[0])
        return ()

    [outcome] = run_members([config], data, report_it, snapshots)
    if isinstance(outcome, SpinlockError):
        raise outcome
    assert outcome is not None  # nothing stopped it
    return outcome


def run_members(
    configs: Sequence[TrialConfig],
    data: PreparedData,
    report: MembersReport = lambda _: (),
    snapshots: Snapshots | None = None,
    keep_states: bool = False,
    earlier: State | None = None,
) -> list[TrialOutcome | SpinlockError | None]:
    """Train several configurations in lock step, as `run_trial` would train each, up to float rounding.

    They may differ in seed, compression, loss weights and learning rate: `lockstep_key` is the same of those that can.
    `report` is called at every evaluation, with the metrics of those that were evaluated by their place in `configs`,
    and returns the places of those that are to end there; what it raises ends all.

    Returns, for each config, its outcome, the `ConfigError` or `DivergedError` that it alone ended with, or None if the
    report ended it. Raises `ConfigError` naming the first setting that differs and may not. `snapshots` may hold more
    members than these, of the same data.

    With `keep_states` outcomes have the state that they ended with. Given as `earlier` to a training of the same config
    with more epochs, that begins with what it ended with, and goes on with the learning rates of its own schedule: with
    a constant one it ends bit for bit as if it had been trained in one go.
    """
    _check_alike(configs)
    device = resolve_device(configs[0].training.device)
    engine = choose_engine(configs, device)
    if engine == "compiled":
        warm_up(configs[0])  # on a node where no study began: not in the middle of a trial, and not in its seconds
    began = time.perf_counter()
    prepared = _on_device(data, GroupLayout(data.categories, device))
    state = further(earlier, configs[0]) if earlier is not None else None
    if snapshots is not None:
        hashes = [config_hash(config) for config in configs]
        state = snapshots.load(_surroundings(data, device, engine), hashes) or state
    if state is not None:
        members, stored = restored_members(state, configs, prepared)
        train(members, prepared, report, Session(began, snapshots, (state, stored), keep_states))
    else:
        members = [_planned(config, data) for config in configs]
        train(members, prepared, report, Session(began, snapshots, None, keep_states))
    return [_outcome(member, data, engine) for member in members]


def _on_device(data: PreparedData, layout: GroupLayout) -> EvaluationData:
    return EvaluationData(
        values_ND=data.values,
        grouped_NGF=layout.pack(torch.from_numpy(np.array(data.values)).to(layout.mask)),
        split=data.split,
        categories=data.categories,
        characteristics=data.characteristics,
        pipeline=data.pipeline,
    )


def training_hash(config: TrialConfig, data: PreparedData) -> str:
    """What the outcome of a config on all folds of this data depends on, in 64 hexadecimal digits.

    That is the settings that are read, and of the compression the plan, however it was arrived at; a measured one is
    known only once it is trained. Raises `ConfigError` if there is no plan.
    """
    live = settled(config)
    if get_strategy(config.compression.strategy).measured:
        return config_hash(live)
    steering = len(data.split.train) + len(data.split.validation)
    sizes = sorted({steering - len(fold) for fold in data.split.folds})  # a row more or less may be a code
    plans = [_plan(config, data, rows) for rows in sizes]
    rest = live.model_dump_json(exclude={"compression"})
    told = [(plan.dims.tolist(), plan.codes.tolist()) for plan in plans]
    return hashlib.sha256(f"{rest}{told}".encode()).hexdigest()


def lockstep_key(config: TrialConfig) -> str:
    """What configs that are trained together must have in common, as text."""
    return config.model_dump_json(exclude=_FREE)


def _surroundings(data: PreparedData, device: torch.device, engine: str) -> str:
    """What a training depends on beside its config, as far as a snapshot is concerned, in 64 hexadecimal
    digits."""
    return hashlib.sha256(
        "\n".join([str(FORMAT_VERSION), data.fingerprint, torch.__version__, device.type, engine]).encode()
    ).hexdigest()


def _planned(config: TrialConfig, data: PreparedData) -> Member:
    """A member with its sizes, or with the error that it ended with before it began."""
    try:
        plan = plan_sizes(config, data)
        require_memory(
            WEIGHT_BYTES * _least_weights(config, plan, data),
            f"a model of {config.model.hidden} hidden units (shared: {config.model.shared_hidden})",
            ConfigError,
            "lower model.hidden, model.shared_hidden or compression.max_codes"
            + (", or take model.decoder category" if config.model.decoder == "joint" else ""),
        )
        return Member(config, plan)
    except ConfigError as error:
        return Member(config, None, error=error)


def _least_weights(config: TrialConfig, plan: CapacityPlan, data: PreparedData) -> int:
    """How many weights a model has at least: those of hidden layers and codebooks, without what pads them."""
    sizes_C1 = np.array([[len(category)] for category in data.categories], dtype=object)
    dims_CL = plan.dims.astype(object)
    hidden = config.model.hidden * int((sizes_C1 + dims_CL).sum())
    if config.model.decoder == "shared":
        hidden += config.model.shared_hidden * int(sizes_C1.sum() + dims_CL.sum())
    else:
        hidden *= 2
    if config.model.decoder == "joint":
        hidden += int(sizes_C1.sum()) ** 2
    return hidden + int((plan.codes.sum(axis=2) * dims_CL).sum())


def plan_sizes(config: TrialConfig, data: PreparedData) -> CapacityPlan:
    """The sizes that a training of `config` has, measured on pilots where its strategy asks for that.

    Raises `ConfigError` if no codebook is left with two codes: whatever was trained, tokens would carry nothing.
    """
    plan = _plan(config, data, len(data.split.train))
    measured = get_strategy(config.compression.strategy).measured
    return measured.plan(config, data) if measured else plan


def _plan(config: TrialConfig, data: PreparedData, rows: int) -> CapacityPlan:
    """The sizes for `rows` training rows; of a measured strategy those that it starts from."""
    settings = config.compression
    plan = plan_capacity(settings, data.characteristics, rows, config.quantizer)
    if plan.bits_per_sample == 0:
        raise ConfigError(
            f"every codebook has one code: {rows} training rows, compression.min_rows_per_code "
            f"{settings.min_rows_per_code}, max_codes {settings.max_codes}; use more rows or other settings"
        )
    return plan


def _outcome(member: Member, data: PreparedData, engine: str) -> TrialOutcome | SpinlockError | None:
    if member.error is not None or member.stopped:
        return member.error
    assert member.validation is not None and member.model is not None
    tokenizer = Tokenizer(
        config=member.config,
        model=member.model,
        pipeline=data.pipeline,
        categories=data.categories,
        characteristics=data.characteristics,
        fingerprint=data.fingerprint,
    )
    return TrialOutcome(
        tokenizer=tokenizer,
        validation=member.validation,
        engine=engine,
        epochs=member.epochs,
        seconds=member.seconds,
        data=data,
        state=member.state,
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
