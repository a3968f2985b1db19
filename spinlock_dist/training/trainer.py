"""Training of M members in lock step: train an epoch, validate, keep the best; and the step that an epoch repeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.config import LEVELS, TrialConfig
from spinlock_dist.device import denormals_flushed
from spinlock_dist.errors import DivergedError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.model.hierarchical_vqvae import (
    HierarchicalVQVAE,
    Reconstruction,
    Tokens,
    select_members,
    take_members,
)
from spinlock_dist.model.initialization import initialize
from spinlock_dist.training import losses
from spinlock_dist.training.compiled_epochs import CompiledEpochs
from spinlock_dist.training.engine import choose_engine
from spinlock_dist.training.evaluation import EvaluationData, chunks, evaluate
from spinlock_dist.training.member import Member, build_model
from spinlock_dist.training.optimizer import MemberAdam
from spinlock_dist.training.schedule import rate_factor
from spinlock_dist.training.snapshot import Snapshots, State

TERMS = ("reconstruction", "commitment", "informativeness", "orthogonality", "topographic")
OF_DECODERS = ("reconstruction", "informativeness")
"""The terms that reach decoders: those that are left while they are refined."""

MembersReport = Callable[[Mapping[int, EpochMetrics]], Collection[int]]
"""Takes what was measured of members, by index, and returns the indices of those that are to end there."""


class Trainer:
    """Trains members in lock step, as one batch; what is not a loss weight, a rate or a seed is common to all.

    Attributes: `members`, all of them; `model`, of those that have not ended, whose indices are in `batch`. A member
    that meets a non-finite loss or gradient is frozen before the step that would have used it. After each epoch
    whatever has ended leaves the batch, so that the others go on faster.

    Training has two parts, as encoding does not take the encoders' tokens but searches for better ones. First all
    learn, on the encoders' tokens; in the last epochs (`training.refine_share`) decoders alone, on those that the
    search found for the training rows at the end of the first part: `tokens`, None before.

    A member trains as it would alone, up to rounding. Nothing sums over members but the loss, and the gradient of
    L_1 + ... + L_M with respect to the weights of member m is that of L_m; Adam acts on each number by itself; batches,
    initialization and revived codes come from random streams of the member's own; what pads it to the widest member is
    zero. Rounding differs since a product may add up in another order when more are computed at once. One member that
    diverges cannot reach the others: its NaN stays in its own slices, and a sum of losses is never looked at.
    """

    def __init__(
        self, model: HierarchicalVQVAE, members: Sequence[Member], data: EvaluationData, keep_states: bool = False
    ):
        self.members, self.data, self.keep_states = list(members), data, keep_states
        self.shared = members[0].config
        device = data.grouped_NGF.device
        self.train_NGF = data.grouped_NGF[torch.as_tensor(data.split.train, device=device)]
        self.scale = losses.Scale.of(model.layout.split(self.train_NGF.var(dim=0, unbiased=False)))
        self.batch_size = min(self.shared.training.batch_size, len(self.train_NGF))
        self.engine = choose_engine([member.config for member in members], device)
        self.active_terms = [term for term in TERMS if any(_weight(member.config, term) for member in members)]
        self.steps = self.epochs = 0
        self.seconds = 0.0
        share = self.shared.training.refine_share if model.searches else 0.0
        self.refine_after = self.shared.training.epochs - round(share * self.shared.training.epochs)
        self.tokens: Tokens | None = None
        self._arrange(model, [index for index, member in enumerate(members) if not member.ended])

    def _arrange(self, model: HierarchicalVQVAE, batch: list[int]) -> None:
        """Train `model` from now on, whose members are those of the indices `batch`."""
        self.model, self.batch = model, batch
        configs, device = [self.members[index].config for index in batch], self.train_NGF.device
        self.weights = {
            term: torch.tensor([_weight(config, term) for config in configs], device=device)
            for term in self.active_terms
        }
        rates_M = torch.tensor([config.training.learning_rate for config in configs])
        self.optimizer = MemberAdam(model.parameters(), rates_M)
        self.dims = [stack.dims_MGL.to(device) for stack in model.stacks]
        self.alive_M = torch.ones(len(batch), dtype=torch.bool, device=device)
        self.checked = [*(f"the {term} loss" for term in self.active_terms), "the gradient"]
        self.failed_TM = torch.zeros(len(self.checked), len(batch), dtype=torch.bool, device=device)
        self.compiled = None
        if self.engine == "compiled":
            self.compiled = CompiledEpochs(model, self.optimizer, self.train_NGF, self.scale, configs)

    def fit(self, report: MembersReport, snapshots: Snapshots | None = None) -> None:
        """Train every member to its end: epoch by epoch, evaluating and reporting."""
        began = time.perf_counter() - self.seconds
        while self.batch:
            if self.tokens is None and self.epochs >= self.refine_after:
                self._begin_refining()
            self.epochs += 1
            means = {term: dict(zip(self.batch, each.tolist(), strict=True)) for term, each in self.epoch().items()}
            self._mark_diverged()
            self._compact()  # what diverged may hold anything: it is not evaluated
            self.seconds = time.perf_counter() - began
            made = self._validate(means)
            for index in report(made) if made else ():
                self.members[index].stopped = True
            self._compact()
            if snapshots is not None and snapshots.due:
                snapshots.save(self.state())

    @torch.no_grad()
    def _begin_refining(self) -> None:
        """Find the tokens of all training rows; encoders stay as they are from now on."""
        rows = np.arange(len(self.train_NGF))
        found = [self.model.tokens(x_MBGF) for x_MBGF in chunks(self.model, self.train_NGF, rows)]
        self.tokens = [
            [torch.cat(parts, dim=2) for parts in zip(*levels, strict=True)] for levels in zip(*found, strict=True)
        ]
        self.optimizer.forget_direction()

    def _compact(self) -> None:
        """Let members that have ended leave the batch; keep the models of those that finished."""
        remaining = [place for place, index in enumerate(self.batch) if not self.members[index].ended]
        if len(remaining) == len(self.batch):
            return
        for place, index in enumerate(self.batch):
            member = self.members[index]
            if member.finished and member.model is None:
                member.model = select_members(self.model, [place])
            if member.finished and self.keep_states:
                member.state = self._state_of(place)
        if not remaining:
            self.batch = []
            return
        optimizer, batch = self.optimizer, [self.batch[place] for place in remaining]
        self._arrange(select_members(self.model, remaining), batch)
        self.optimizer.steps = optimizer.steps
        take_members(self.optimizer.moments(), optimizer.moments(), remaining)
        if self.tokens is not None:
            self.tokens = [[tokens_MGNS[remaining] for tokens_MGNS in levels] for levels in self.tokens]

    def epoch(self) -> dict[str, Tensor]:
        """Pass once over the training rows; return the mean of each loss term `[M]`. No host sync in a step."""
        rows = len(self.train_NGF)
        order_MN = torch.stack([torch.randperm(rows, generator=self.members[index].order) for index in self.batch])
        batches = rows // self.batch_size
        rates_SM = self._rates(batches)
        if self.compiled is not None:
            return self._compiled_epoch(order_MN, rates_SM)
        order_MN = order_MN.to(self.train_NGF.device)
        sums: dict[str, Tensor] = {}
        for batch in range(batches):
            self.optimizer.rates = rates_SM[batch]
            index_MB = order_MN[:, batch * self.batch_size : (batch + 1) * self.batch_size]
            for term, value_M in self.step(index_MB).items():
                sums[term] = sums.get(term, 0) + value_M / batches
        return sums

    def _rates(self, batches: int) -> list[list[float]]:
        """The learning rate of each member at each step of the epoch; the schedule runs once in each part."""
        configs = [self.members[index].config.training for index in self.batch]
        first, last = 0, self.refine_after
        if self.tokens is not None:
            first, last = last, self.shared.training.epochs
        done, steps = self.steps - first * batches, (last - first) * batches
        return [
            [config.learning_rate * rate_factor(config, done + batch, steps) for config in configs]
            for batch in range(batches)
        ]

    def _compiled_epoch(self, order_MN: Tensor, rates_SM: list[list[float]]) -> dict[str, Tensor]:
        assert self.compiled is not None
        means_MT, failed_MT = self.compiled.epoch(order_MN.numpy(), np.array(rates_SM).T, self.tokens)
        self.steps += len(rates_SM)
        means = {term: torch.from_numpy(means_MT[:, at]) for at, term in enumerate(self.compiled.terms)}
        checked = [*self.compiled.terms, "gradient"]
        self.failed_TM = torch.from_numpy(failed_MT.T)[[checked.index(of) for of in (*self.active_terms, "gradient")]]
        return self._with_total({term: means[term] for term in self._learning()})

    def _learning(self) -> list[str]:
        """The terms that are minimized now."""
        return [term for term in self.active_terms if self.tokens is None or term in OF_DECODERS]

    def _with_total(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        total_M = torch.stack([self.weights[term] * value_M for term, value_M in terms.items()]).sum(dim=0)
        return {**terms, "total": total_M}

    def step(self, index_MB: Tensor) -> dict[str, Tensor]:
        """Forward, backward, update weights and codebooks, on some training rows of each member; return the unweighted
        terms and their weighted total."""
        self.optimizer.zero_grad()
        results = self._forward(index_MB)
        terms = self._with_total(self._terms(results))
        terms["total"].sum().backward()
        always_M = torch.ones_like(self.alive_M)
        finite = {term: torch.isfinite(value_M.detach()) for term, value_M in terms.items()}
        finite_TM = [*(finite.get(term, always_M) for term in self.active_terms), self.optimizer.finite_M()]
        failed_TM = ~torch.stack(finite_TM)
        self.failed_TM |= failed_TM & self.alive_M
        self.alive_M &= ~failed_TM.any(dim=0)
        self.optimizer.step(self.alive_M)
        self.steps += 1
        if self.tokens is None:
            every = self.shared.quantizer.expiry_every
            self.model.update_codebooks(results, self.alive_M, expire=self.steps % every == 0)
        return {name: value_M.detach() for name, value_M in terms.items()}

    def _forward(self, index_MB: Tensor) -> list[Reconstruction]:
        x_MBGF = self.train_NGF[index_MB]
        if self.tokens is None:
            return cast(list[Reconstruction], self.model(x_MBGF))

        def of_batch(tokens_MGNS: Tensor) -> Tensor:
            members, groups, _, books = tokens_MGNS.shape
            return tokens_MGNS.gather(2, index_MB[:, None, :, None].expand(members, groups, -1, books))

        return self.model.rebuild(x_MBGF, [[of_batch(each) for each in levels] for levels in self.tokens])

    def _terms(self, results: list[Reconstruction]) -> dict[str, Tensor]:
        by, scale = self.shared.loss.reconstruction_balance, self.scale
        compute = {
            "reconstruction": lambda: losses.reconstruction(results, scale, by),
            "commitment": lambda: losses.commitment(results, scale, by),
            "informativeness": lambda: losses.informativeness(results, scale),
            "orthogonality": lambda: losses.orthogonality(results, self.dims),
            "topographic": lambda: losses.topographic(results),
        }
        return {term: compute[term]() for term in self._learning()}

    def _mark_diverged(self) -> None:
        """Give every member that failed in this epoch its error."""
        for index, failed in zip(self.batch, self.failed_TM.T.tolist(), strict=True):
            if any(failed):
                member = self.members[index]
                member.error = DivergedError(self.epochs, self.checked[failed.index(True)])

    def _validate(self, means: dict[str, dict[int, float]]) -> dict[int, EpochMetrics]:
        """Evaluate the members that are due for it and keep the best of each; `means` are the losses of the epoch.

        A member with a metric that is not finite ends there, and is not among what is returned.
        """
        due = [index for index in self.batch if self._is_due(index)]
        if not due:
            return {}
        self._fit_correction()
        may_end = any(self._is_last(index) or self.members[index].stopping.patience for index in due)
        found = evaluate(self.model, self.data, "validation", on_the_way=not may_end)
        measured = dict(zip(self.batch, found, strict=True))
        made = {}
        for index in due:
            member, metrics = self.members[index], measured[index]
            bad = next((name for name, value in metrics.scalars().items() if not np.isfinite(value)), None)
            if bad:
                member.error = DivergedError(self.epochs, f"the metric {bad}")
                continue
            member.epochs, member.seconds = self.epochs, self.seconds
            self._keep_best(index, metrics)
            member.finished = self._is_last(index) or member.stopping.exhausted
            made[index] = EpochMetrics(
                epoch=member.epochs,
                trained=self.epochs,
                finished=member.finished,
                losses={term: values[index] for term, values in means.items()},
                validation=metrics,
                seconds=self.seconds,
            )
            member.reports.append(made[index])
        return made

    @torch.no_grad()
    def _fit_correction(self) -> None:
        """As if training ended here: what is measured, and may be kept, is corrected for the decoders as they are."""
        correction = self.model.correction
        if correction is None:
            return
        layout, rows = self.model.layout, np.arange(len(self.train_NGF))
        parts = []
        for x_MBGF in chunks(self.model, self.train_NGF, rows):
            results = self.model.rebuild(x_MBGF, self.model.tokens(x_MBGF))
            parts.append(layout.unpack(self.model.join([result.output_MGBF for result in results])).cpu())
        output_MND, target_ND = torch.cat(parts, dim=1).numpy(), layout.unpack(self.train_NGF).cpu().numpy()
        for member, output_ND in enumerate(output_MND):
            correction.fit(member, output_ND, target_ND)

    def _is_due(self, index: int) -> bool:
        due = self.epochs % self.shared.training.evaluate_every == 0 or self._is_last(index)
        return due and not self.members[index].ended

    def _is_last(self, index: int) -> bool:
        return self.epochs >= self.shared.training.epochs

    def _keep_best(self, index: int, metrics: Metrics) -> None:
        """Take these metrics as the member's; with early stopping only if they are its best, and the model too."""
        member = self.members[index]
        improved = member.stopping.update(metrics.fvu_worst)
        if member.stopping.patience is None:
            member.validation = metrics
        elif improved:
            member.validation = metrics
            member.model = select_members(self.model, [self.batch.index(index)])

    def state(self) -> State:
        """Everything that the epochs to come depend on: a training restored from it ends bit for bit alike."""
        state = self._gathered(self.model, self.optimizer, self.members, self.batch)
        for bucket, levels in enumerate(self.tokens or ()):
            state.tensors.update({f"tokens/{bucket}/{level}": each_MGNS for level, each_MGNS in enumerate(levels)})
        return state

    def _gathered(
        self, model: HierarchicalVQVAE, optimizer: MemberAdam, members: Sequence[Member], batch: Sequence[int]
    ) -> State:
        tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer.moments().items()}
        for index, member in enumerate(members):
            tensors[f"order/{index}"] = member.order.get_state()
            kept = member.model.state_dict() if member.model is not None else {}
            tensors |= {f"kept/{index}/{name}": tensor for name, tensor in kept.items()}
        progress = {"epoch": self.epochs, "steps": self.steps, "seconds": self.seconds, "batch": list(batch)}
        return State(tensors, {**progress, "members": [member.metadata() for member in members]})

    def _state_of(self, place: int) -> State:
        """The state of one member, by its place in the batch, as if it had been trained alone."""
        model, member = select_members(self.model, [place]), self.members[self.batch[place]]
        optimizer = MemberAdam(model.parameters(), torch.tensor([member.config.training.learning_rate]))
        take_members(optimizer.moments(), self.optimizer.moments(), [place])
        return self._gathered(model, optimizer, [member], [0])

    def restore(self, state: State, stored: Sequence[int]) -> None:
        """Go back to where `state` was taken. `stored`: the place of each member in it."""
        metadata = state.metadata
        self.epochs, self.seconds = metadata["epoch"], metadata["seconds"]
        self.steps = self.optimizer.steps = metadata["steps"]
        places = [metadata["batch"].index(stored[index]) for index in self.batch]
        take_members(self.model.state_dict(), state.below("model/"), places)
        take_members(self.optimizer.moments(), state.below("optimizer/"), places)
        if kept := state.below("tokens/"):
            device, depth = self.train_NGF.device, range(len(LEVELS))
            buckets = range(len(self.model.stacks))
            self.tokens = [[kept[f"{bucket}/{level}"][places].to(device) for level in depth] for bucket in buckets]


@dataclass(frozen=True)
class Session:
    """Where a training stands in time."""

    began: float
    """The `time.perf_counter()` from which seconds are counted, so that pilots and the start count as well."""
    snapshots: Snapshots | None = None
    """Where it is saved, if at all."""
    earlier: tuple[State, Sequence[int]] | None = None
    """The state that members were restored from, and where in it each stands."""
    keep_states: bool = False
    """Whether members keep the state that they end with."""


def train(members: Sequence[Member], data: EvaluationData, report: MembersReport, session: Session) -> None:
    """Train the members that have not ended on `data`; see `Trainer`.

    Restored members resume where they were; first the reports they had made are made again.
    """
    _repeat_reports(members, report)
    running = [member for member in members if not member.ended]
    if not running:
        return
    trainer = Trainer(build_model(running, data), members, data, session.keep_states)
    if session.earlier is None:
        seeds, compiled = [member.config.seed for member in running], trainer.engine == "compiled"
        initialize(trainer.model, trainer.train_NGF, seeds, trainer.batch_size, compiled)
        trainer.seconds = time.perf_counter() - session.began
    else:
        trainer.restore(*session.earlier)
    with denormals_flushed():
        trainer.fit(report, session.snapshots)


def _repeat_reports(members: Sequence[Member], report: MembersReport) -> None:
    for epoch in sorted({made.trained for member in members for made in member.reports}):
        again = {i: made for i, member in enumerate(members) for made in member.reports if made.trained == epoch}
        for index in report(again):
            members[index].stopped = True


def _weight(config: TrialConfig, term: str) -> float:
    return 1.0 if term == "reconstruction" else float(getattr(config.loss, term))
