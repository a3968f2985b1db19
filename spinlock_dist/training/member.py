"""One config in training: what is kept of it from epoch to epoch, and how that goes into a snapshot and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
from torch import Generator

from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError, SpinlockError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.seeding import derive_seed
from spinlock_dist.training.early_stopping import EarlyStopping
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.snapshot import State

ERRORS: dict[str, type[SpinlockError]] = {error.__name__: error for error in (ConfigError, DivergedError)}
"""What a member can end with, by the name that a snapshot gives it."""


@dataclass
class Member:
    """One config in training, with its plan.

    It ends when it has `finished`, when a report has it `stopped`, or with an `error`: it met a non-finite number, or
    has no plan. `model` is what comes of it: with the weights of its last epoch, or of the best with early stopping.
    """

    config: TrialConfig
    plan: CapacityPlan | None
    validation: Metrics | None = None
    epochs: int = 0
    seconds: float = 0.0
    finished: bool = False
    stopped: bool = False
    error: SpinlockError | None = None
    model: HierarchicalVQVAE | None = None
    state: State | None = None
    """Where its training ended, if that is to be kept; `further` begins there."""
    reports: list[EpochMetrics] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order = Generator().manual_seed(derive_seed(self.config.seed, "batch order"))
        self.stopping = EarlyStopping(self.config.training.patience)

    @property
    def ended(self) -> bool:
        """Whether it trains no further."""
        return self.finished or self.stopped or self.error is not None

    def metadata(self) -> dict[str, Any]:
        """What a snapshot holds of it as plain data; `restored_members` reads it."""
        plan, error = self.plan, self.error
        return {
            "identity": config_hash(self.config),
            "plan": {name: sizes.tolist() for name, sizes in vars(plan).items()} if plan is not None else None,
            "stopping": [self.stopping.best, self.stopping.since_best],
            "validation": asdict(self.validation) if self.validation else None,
            "reached": [self.epochs, self.seconds],
            "finished": self.finished,
            "stopped": self.stopped,
            "error": [type(error).__name__, error.args] if error else None,
            "reports": [asdict(report) for report in self.reports],
        }


def further(state: State, config: TrialConfig) -> State:
    """The state that a training ended with, of one member, as one of an unfinished training of `config`.

    The config differs from that of the training in its epochs alone; with early stopping, patience begins anew.
    """
    [stored] = state.metadata["members"]
    stopping = [stored["stopping"][0], 0]
    member = stored | {"identity": config_hash(config), "finished": False, "stopping": stopping, "reports": []}
    tensors = dict(state.tensors)
    if config.training.patience is None:  # else what is kept is the best so far, which later epochs may not reach
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("kept/")}
    return State(tensors, {**state.metadata, "members": [member]})


def build_model(members: Sequence[Member], data: EvaluationData) -> HierarchicalVQVAE:
    """A model of these members on the device of the data, not yet initialized."""
    shared = members[0].config
    plans = [cast(CapacityPlan, member.plan) for member in members]
    model = HierarchicalVQVAE(data.layout, plans, shared.model, shared.quantizer)
    return model.to(data.grouped_NGF.device)


def restored_members(
    state: State, configs: Sequence[TrialConfig], data: EvaluationData
) -> tuple[list[Member], list[int]]:
    """The members of a stored training that have these configs, and their places in it."""
    hashes = [stored["identity"] for stored in state.metadata["members"]]
    places: list[int] = []
    for config in configs:  # the same config may be there twice
        wanted = config_hash(config)
        places.append(next(at for at, each in enumerate(hashes) if each == wanted and at not in places))
    return [_restored(state, at, config, data) for at, config in zip(places, configs, strict=True)], places


def _restored(state: State, place: int, config: TrialConfig, data: EvaluationData) -> Member:
    stored = state.metadata["members"][place]
    sizes = {name: np.array(each) for name, each in (stored["plan"] or {}).items()}
    member = Member(config, CapacityPlan(**sizes) if sizes else None)
    member.epochs, member.seconds = stored["reached"]
    member.finished, member.stopped = stored["finished"], stored["stopped"]
    member.order.set_state(state.tensors[f"order/{place}"])
    member.stopping.best, member.stopping.since_best = stored["stopping"]
    member.validation = Metrics.from_json(stored["validation"]) if stored["validation"] else None
    member.error = ERRORS[stored["error"][0]](*stored["error"][1]) if stored["error"] else None
    for made in stored["reports"]:
        member.reports.append(EpochMetrics(**{**made, "validation": Metrics.from_json(made["validation"])}))
    if kept := state.below(f"kept/{place}/"):
        member.model = build_model([member], data)
        member.model.load_state_dict(kept)
    return member


def config_hash(config: TrialConfig) -> str:
    """What tells the training of one config from that of another, in 64 hexadecimal digits."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()
