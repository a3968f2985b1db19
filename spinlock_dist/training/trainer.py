"""Training of M members in lock step: the step, the epoch, and what is kept of each member."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

from spinlock_dist.compression.sizing import CapacityPlan
from spinlock_dist.config import TrialConfig
from spinlock_dist.device import denormals_flushed
from spinlock_dist.errors import DivergedError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, Reconstruction
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.model.trained_encoders import Inputs, trained_encoders
from spinlock_dist.seeding import derive_seed
from spinlock_dist.training import losses
from spinlock_dist.training.early_stopping import EarlyStopping
from spinlock_dist.training.evaluation import EvaluationData, evaluate
from spinlock_dist.training.optimizer import MemberAdam
from spinlock_dist.training.snapshot import Snapshots, State

TERMS = ("reconstruction", "commitment", "informativeness", "orthogonality", "topographic")

PLAN = ("ratios", "dims", "codes")

Report = Callable[[EpochMetrics], None]


@dataclass
class Member:
    """What training keeps of one member. `diverged` is set when it met a non-finite number."""

    stopping: EarlyStopping
    validation: Metrics | None = None
    epochs: int = 0
    seconds: float = 0.0
    diverged: DivergedError | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    reports: list[EpochMetrics] = field(default_factory=list)


class Trainer:
    """Trains the members of `model`, one config each; what is not a loss weight, a rate or a seed is common to all.

    A member that meets a non-finite loss is frozen before the step that would have used it; the others go on.
    """

    def __init__(
        self, model: HierarchicalVQVAE, configs: Sequence[TrialConfig], data: EvaluationData, spent: Sequence[int]
    ):
        self.model, self.configs, self.data, self.spent = model, configs, data, spent
        self.shared = configs[0]
        device = data.grouped_NGF.device
        self.rows_N = torch.as_tensor(data.split.train, device=device)
        self.train_NGF = data.grouped_NGF[self.rows_N]
        self.variance_GF = self.train_NGF.var(dim=0, unbiased=False)
        self.batch_size = min(self.shared.training.batch_size, len(self.train_NGF))
        self.weights = {
            term: torch.tensor([_weight(config, term) for config in configs], device=device) for term in TERMS
        }
        self.active_terms = [term for term in TERMS if self.weights[term].any()]
        rates_M = torch.tensor([config.training.learning_rate for config in configs])
        self.optimizer = MemberAdam(model.parameters(), rates_M)
        self.orders = [Generator().manual_seed(derive_seed(config.seed, "batch order")) for config in configs]
        self.alive_M = torch.ones(model.members, dtype=torch.bool, device=device)
        self.failed_TM = torch.zeros(len(self.active_terms), model.members, dtype=torch.bool, device=device)
        self.steps = self.epochs = 0
        self.seconds = 0.0
        self.members = [Member(EarlyStopping(config.training.patience)) for config in configs]

    def fit(self, reports: Sequence[Report], snapshots: Snapshots | None = None) -> list[Member]:
        """Train to the end: epoch by epoch, evaluating, reporting, and keeping each member's best weights if asked.

        A member that has `spent` epochs before (on pilots) trains so many less, and counts them in its reports.
        A training that was restored first repeats the reports it had made.
        """
        for member, report in zip(self.members, reports, strict=True):
            for made in member.reports:
                report(made)
        began = time.perf_counter() - self.seconds
        while self._running():
            self.epochs += 1
            means = self.epoch()
            self._mark_diverged(self.epochs)
            due = [index for index in self._running() if self._is_due(index, self.epochs)]
            self.seconds = time.perf_counter() - began
            if due:
                self._evaluate(due, self.epochs, means, self.seconds, reports)
            if snapshots is not None and snapshots.due and self._running():
                snapshots.save(self.state())
        self._restore_best()
        return self.members

    def state(self) -> State:
        """Return everything that the epochs to come depend on: a training restored from it ends bit for bit alike."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {"first": self.optimizer.first, "second": self.optimizer.second}
        tensors |= {"alive": self.alive_M, "failed": self.failed_TM}
        tensors |= {f"order/{index}": generator.get_state() for index, generator in enumerate(self.orders)}
        for index, member in enumerate(self.members):
            tensors |= {f"best/{index}/{name}": tensor for name, tensor in member.best_weights.items()}
        members = [
            {
                "stopping": [member.stopping.best, member.stopping.since_best],
                "validation": asdict(member.validation) if member.validation else None,
                "ended": [member.epochs, member.seconds],
                "diverged": member.diverged.args if member.diverged else None,
                "reports": [asdict(report) for report in member.reports],
            }
            for member in self.members
        ]
        plans = [{name: getattr(plan, name).tolist() for name in PLAN} for plan in self.model.plans]
        progress = {"epoch": self.epochs, "steps": self.steps, "seconds": self.seconds}
        return State(tensors, {**progress, "members": members, "plans": plans, "spent": list(self.spent)})

    def restore(self, state: State) -> None:
        """Go back to where `state` was taken. The trainer was made with the same model, configs and data."""
        tensors, facts = state.tensors, state.facts
        self.model.load_state_dict(_below("model/", tensors))
        self.optimizer.first.copy_(tensors["first"])
        self.optimizer.second.copy_(tensors["second"])
        self.alive_M.copy_(tensors["alive"])
        self.failed_TM.copy_(tensors["failed"])
        self.epochs, self.seconds = facts["epoch"], facts["seconds"]
        self.steps = self.optimizer.steps = facts["steps"]
        for index, (member, known) in enumerate(zip(self.members, facts["members"], strict=True)):
            self.orders[index].set_state(tensors[f"order/{index}"])
            member.best_weights = {
                name: tensor.to(self.alive_M.device) for name, tensor in _below(f"best/{index}/", tensors).items()
            }
            member.stopping.best, member.stopping.since_best = known["stopping"]
            member.validation = Metrics(**known["validation"]) if known["validation"] else None
            member.epochs, member.seconds = known["ended"]
            member.diverged = DivergedError(*known["diverged"]) if known["diverged"] else None
            member.reports = [
                EpochMetrics(**{**report, "validation": Metrics(**report["validation"])}) for report in known["reports"]
            ]

    def epoch(self) -> dict[str, Tensor]:
        """Pass once over the training rows; return the mean of each loss term `[M]`. No host sync in a step."""
        rows = len(self.train_NGF)
        order_MN = torch.stack([torch.randperm(rows, generator=generator) for generator in self.orders])
        order_MN = order_MN.to(self.train_NGF.device)
        sums: dict[str, Tensor] = {}
        batches = rows // self.batch_size
        for batch in range(batches):
            index_MB = order_MN[:, batch * self.batch_size : (batch + 1) * self.batch_size]
            inputs = {family: seen_N[self.rows_N[index_MB]] for family, seen_N in self.data.inputs.items()}
            for term, value_M in self.step(self.train_NGF[index_MB], inputs).items():
                sums[term] = sums.get(term, 0) + value_M / batches
        return sums

    def step(self, x_MBGF: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        """Forward, backward, update weights and codebooks; return the unweighted terms and their weighted total."""
        self.optimizer.zero_grad()
        result = self.model(x_MBGF, inputs)
        terms = self._terms(result, x_MBGF.transpose(1, 2))
        total_M = torch.stack([self.weights[term] * value_M for term, value_M in terms.items()]).sum(dim=0)
        total_M.sum().backward()
        failed_TM = ~torch.isfinite(torch.stack([value_M.detach() for value_M in terms.values()]))
        self.failed_TM |= failed_TM & self.alive_M
        self.alive_M = self.alive_M & ~failed_TM.any(dim=0)
        self.optimizer.step(self.alive_M)
        self.steps += 1
        every = self.shared.quantizer.expiry_every
        self.model.update_codebooks(result.levels, self.alive_M, expire=self.steps % every == 0)
        return {name: value_M.detach() for name, value_M in {**terms, "total": total_M}.items()}

    def _terms(self, result: Reconstruction, target_MGBF: Tensor) -> dict[str, Tensor]:
        by = self.shared.loss.reconstruction_balance
        compute = {
            "reconstruction": lambda: losses.reconstruction(result, target_MGBF, self.variance_GF, by),
            "commitment": lambda: losses.commitment(result.levels, self.variance_GF, by),
            "informativeness": lambda: losses.informativeness(result, target_MGBF, self.variance_GF),
            "orthogonality": lambda: losses.orthogonality(result.levels),
            "topographic": lambda: losses.topographic(result.levels, target_MGBF),
        }
        return {term: compute[term]() for term in self.active_terms}

    def _running(self) -> list[int]:
        return [index for index, alive in enumerate(self.alive_M.tolist()) if alive]

    def _mark_diverged(self, epoch: int) -> None:
        """Give every member that failed in this epoch its error; the only host sync of an epoch."""
        for index, failed in enumerate(self.failed_TM.T.tolist()):
            if any(failed) and self.members[index].diverged is None:
                term = self.active_terms[failed.index(True)]
                self.members[index].diverged = DivergedError(epoch, f"the {term} loss")

    def _is_due(self, index: int, epoch: int) -> bool:
        return epoch % self.shared.training.evaluate_every == 0 or self._is_last(index, epoch)

    def _is_last(self, index: int, epoch: int) -> bool:
        return epoch + self.spent[index] >= self.shared.training.epochs

    def _evaluate(
        self, due: list[int], epoch: int, means: dict[str, Tensor], seconds: float, reports: Sequence[Report]
    ) -> None:
        measured = evaluate(self.model, self.data, "validation")
        losses_M = {term: value_M.tolist() for term, value_M in means.items()}
        for index in due:
            member, metrics = self.members[index], measured[index]
            bad = next((name for name, value in metrics.scalars().items() if not np.isfinite(value)), None)
            if bad:
                member.diverged = DivergedError(epoch, f"the metric {bad}")
                self.alive_M[index] = False
                continue
            member.epochs, member.seconds = epoch + self.spent[index], seconds
            self._keep(index, metrics)
            finished = self._is_last(index, epoch) or member.stopping.exhausted
            if finished:
                self.alive_M[index] = False
            member.reports.append(
                EpochMetrics(
                    epoch=member.epochs,
                    trained=epoch,
                    finished=finished,
                    losses={term: values[index] for term, values in losses_M.items()},
                    validation=metrics,
                    seconds=seconds,
                )
            )
            reports[index](member.reports[-1])

    def _keep(self, index: int, metrics: Metrics) -> None:
        """Take these metrics as the member's; with early stopping only if they are its best, and the weights too."""
        member = self.members[index]
        improved = member.stopping.update(metrics.fvu_worst)
        if member.stopping.patience is None:
            member.validation = metrics
        elif improved:
            member.validation = metrics
            state = self.model.state_dict()
            member.best_weights = {name: tensor[index].clone() for name, tensor in state.items()}

    @torch.no_grad()
    def _restore_best(self) -> None:
        state = self.model.state_dict()
        for index, member in enumerate(self.members):
            for name, tensor in member.best_weights.items():
                state[name][index].copy_(tensor)


def train(
    configs: Sequence[TrialConfig],
    plans: Sequence[CapacityPlan],
    data: EvaluationData,
    layout: GroupLayout,
    reports: Sequence[Report],
    spent: Sequence[int],
    began: float,
    snapshots: Snapshots | None = None,
    earlier: State | None = None,
) -> tuple[HierarchicalVQVAE, list[Member]]:
    """Build a model with a member per config and plan, start it or restore it, train it on `data`; see `Trainer`.

    `began` is the `time.perf_counter()` from which seconds are counted, so that pilots and the start count as well.
    """
    shared = configs[0]
    encoders = trained_encoders(data.pipeline, layout, len(plans))
    model = HierarchicalVQVAE(layout, plans, shared.model, shared.quantizer, encoders).to(data.grouped_NGF.device)
    trainer = Trainer(model, configs, data, spent)
    if earlier is None:
        initialize(model, trainer.train_NGF, [config.seed for config in configs], trainer.batch_size)
        trainer.seconds = time.perf_counter() - began
    else:
        trainer.restore(earlier)
    with denormals_flushed():
        return model, trainer.fit(reports, snapshots)


def stored_plans(state: State) -> tuple[list[CapacityPlan], list[int]]:
    """Return the plans of the members of a stored training, and the epochs that finding them cost."""
    plans = [CapacityPlan(**{name: np.array(plan[name]) for name in PLAN}) for plan in state.facts["plans"]]
    return plans, state.facts["spent"]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _weight(config: TrialConfig, term: str) -> float:
    return 1.0 if term == "reconstruction" else float(getattr(config.loss, term))
