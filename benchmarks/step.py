"""What a training step costs: against the plain way of writing it, by members, against the machine's matmul peak.

    python benchmarks/step.py                             every part, at the source's sizes: 10,000 x 139, 8 categories
    python benchmarks/step.py --parts reference members   some of: reference members peak growth

Everything is measured side by side in one run, interleaved, medians over repeats, on one thread. Times are those of the
processor, so that other work on the machine is not counted. `reference`: epochs per second of the compiled step, of
torch's batched one and of `benchmarks/reference.py` with a DataLoader, all from the same weights; operator calls a
step, and which of them are kernels, that is, compute: a view or a detach only looks at a tensor otherwise. `members`: M
trainings in lock step against M single ones, in torch. `peak`: floating-point operations per second of the steps as a
share of what one large matmul reaches here; of torch's the part without padding, and what of the time is left with next
to no rows, which is calls. `growth`: seconds an epoch as one size grows, compiled.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from measure import interleaved as in_turns
from measure import keep, tell, tell_machine
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.calls import CallCounter
from benchmarks.reference import PlainVQVAE, from_batched
from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import plan_capacity
from spinlock_dist.compression.characteristics import characterize
from spinlock_dist.config import TrialConfig
from spinlock_dist.device import denormals_flushed, resolve_device
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.split import Split
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.member import Member
from spinlock_dist.training.trainer import Trainer

SIZES = (14, 14, 33, 9, 7, 28, 13, 21)
"""Features of the categories of the source's 10,000-sample comparison."""
ROWS, BATCH, REPEATS = 10_000, 512, 5
TORCH = {"training.engine": "torch"}
PARTS = ("reference", "members", "peak", "growth")


def table(rows: int, sizes: Sequence[int], seed: int = 0) -> Tensor:
    """Return standardized correlated features `[N, D]`, a few factors a category."""
    rng = np.random.default_rng(seed)
    columns = []
    for size in sizes:
        factors = max(2, size // 4)
        mixed = rng.normal(size=(rows, factors)) @ rng.normal(size=(factors, size))
        columns.append(np.tanh(mixed) + 0.3 * rng.normal(size=(rows, size)))
    values = np.concatenate(columns, axis=1)
    return torch.tensor((values - values.mean(0)) / values.std(0), dtype=torch.float32)


def make_trainer(values: Tensor, sizes: Sequence[int], members: int = 1, codes: int = 1, **settings: Any) -> Trainer:
    """Return a trainer of uniform ratios on all rows, started, with `members` seeds and `codes` times the codes."""
    config = TrialConfig().with_overrides(
        {
            "training.batch_size": BATCH,
            "training.device": "cpu",
            "compression.strategy": "uniform",
            "model.initialization": "random",
            **settings,
        }
    )
    device = resolve_device(config.training.device)
    edges = np.cumsum([0, *sizes])
    categories = tuple(
        Category(f"c{place}", tuple(range(low, high))) for place, (low, high) in enumerate(pairwise(edges.tolist()))
    )
    found = tuple(characterize(values.numpy()[:, list(each.columns)]) for each in categories)
    plan = plan_capacity(config.compression, found, len(values), config.quantizer)
    plan = replace(plan, codes=plan.codes * codes)
    layout = GroupLayout(categories, device)
    model = HierarchicalVQVAE(layout, [plan] * members, config.model, config.quantizer).to(device)
    rows = np.arange(len(values))
    data = EvaluationData(
        values_ND=values.numpy(),
        grouped_NGF=layout.pack(values.to(device)),
        split=Split(train=rows, validation=rows[:1], test=rows[:1]),
        categories=categories,
        characteristics=found,
        pipeline=None,  # type: ignore[arg-type]  # nothing is evaluated here
    )
    together = [Member(config.model_copy(update={"seed": seed}), plan) for seed in range(members)]
    trainer = Trainer(model, together, data)
    initialize(model, trainer.train_NGF, list(range(members)), trainer.batch_size)
    return trainer


def interleaved(arms: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Return the median seconds of the processor that each arm takes, run in turns."""
    return in_turns(arms, repeats, time.process_time)


# ---------------------------------------------------------------- parts


def plain_epoch(plain: PlainVQVAE, values: Tensor) -> Callable[[], None]:
    """Return what trains one epoch the plain way."""
    loader = DataLoader(TensorDataset(values), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(plain.parameters(), lr=plain.config.training.learning_rate)

    def epoch() -> None:
        for (batch,) in loader:
            optimizer.zero_grad()
            plain.losses(batch)["total"].backward()
            optimizer.step()
            plain.update_codebooks()

    return epoch


def reference() -> dict[str, float]:
    """Measure the compiled and the batched step against the plain one."""
    values = table(ROWS, SIZES)
    compiled, trainer = make_trainer(values, SIZES), make_trainer(values, SIZES, **TORCH)
    plain = from_batched(trainer.model, values.var(dim=0, unbiased=False), trainer.shared)
    arms = {"compiled": compiled.epoch, "batched": trainer.epoch, "plain": plain_epoch(plain, values)}
    seconds = interleaved(arms)
    index = torch.arange(BATCH)[None]
    with CallCounter() as ours:
        trainer.step(index)
    optimizer = torch.optim.Adam(plain.parameters())
    with CallCounter() as theirs:
        optimizer.zero_grad()
        plain.losses(values[:BATCH])["total"].backward()
        optimizer.step()
        plain.update_codebooks()
    return {
        "epochs per second, compiled": 1 / seconds["compiled"],
        "epochs per second, batched": 1 / seconds["batched"],
        "epochs per second, plain": 1 / seconds["plain"],
        "ratio, compiled": seconds["plain"] / seconds["compiled"],
        "ratio, batched": seconds["plain"] / seconds["batched"],
        "operator calls a step, batched": ours.calls,
        "operator calls a step, plain": theirs.calls,
        "calls, ratio": theirs.calls / ours.calls,
        "kernels a step, batched": ours.kernels,
        "kernels a step, plain": theirs.kernels,
        "kernels, ratio": theirs.kernels / ours.kernels,
    }


def members() -> dict[str, float]:
    """Measure M members in lock step against as many single trainings, and the memory of each member."""
    values = table(ROWS, SIZES)
    single = make_trainer(values, SIZES, **TORCH)
    arms: dict[str, Callable[[], object]] = {"1": single.epoch}
    cells = {}
    for count in (2, 4, 8, 16, 32):
        trainer = make_trainer(values, SIZES, count, **TORCH)
        arms[str(count)] = trainer.epoch
        cells[count] = 4 * trainer.optimizer.weights.numel() / count  # bytes of float32
    seconds = interleaved(arms, repeats=3)
    found = {
        f"{count} members, times as fast as single runs": int(count) * seconds["1"] / s for count, s in seconds.items()
    }
    for count in (1, 32):
        trainer = make_trainer(values, SIZES, count, **TORCH)
        with CallCounter() as counter:
            trainer.step(torch.arange(BATCH).expand(count, -1))
        found[f"kernels a step, {count} members"] = counter.kernels
    state = 4 * cells[32] + sum(4 * buffer.numel() for buffer in single.model.buffers())
    return {**found, "kB a member (weights, gradients, two moments, codebooks)": state / 1e3}


def peak() -> dict[str, float]:
    """Measure the steps' floating-point operations per second against one large matmul."""
    values = table(ROWS, SIZES)
    trainer, compiled = make_trainer(values, SIZES, **TORCH), make_trainer(values, SIZES)
    batch = trainer.train_NGF[torch.arange(BATCH)[None]]
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: in_place_flops}) as counter:
        trainer.step(batch)
    size = 1024
    a, b = torch.randn(size, size), torch.randn(size, size)
    few = batch[:, :2]
    seconds = interleaved(
        {
            "step": lambda: [trainer.step(batch) for _ in range(20)],
            "few": lambda: [trainer.step(few) for _ in range(20)],
            "compiled": compiled.epoch,
            "matmul": lambda: a @ b,
        },
        9,
    )
    needed, compiled_step = operations(compiled), seconds["compiled"] / (ROWS // BATCH)
    rate, most = 20 * counter.get_total_flops() / seconds["step"], 2 * size**3 / seconds["matmul"]
    return {
        "GFLOP a step (matmuls)": counter.get_total_flops() / 1e9,
        "GFLOP/s of the step": rate / 1e9,
        "GFLOP/s of one matmul": most / 1e9,
        "share of the peak": rate / most,
        "share of the weights that is not padding": share_in_use(trainer),
        "GFLOP a step without padding": needed / 1e9,
        "ms a step, compiled": 1000 * compiled_step,
        "GFLOP/s of the compiled step": needed / compiled_step / 1e9,
        "share of the peak, compiled": needed / compiled_step / most,
        "ms a step": 50 * seconds["step"],
        "ms a step of two rows": 50 * seconds["few"],
    }


def operations(trainer: Trainer) -> float:
    """The operations of a step's products, without any padding: forward, and what of the backward pass is needed."""
    layout, plan, hidden = trainer.model.layout, trainer.model.plans[0], trainer.shared.model.hidden
    total = 0
    for size, dims in zip(layout.sizes, plan.dims.tolist(), strict=True):
        for level, dim in enumerate(dims):
            seen = sum(dims[:level])
            weights = 2 * size * dim + (size + 2 * seen + dim) * hidden + (dim + size) * hidden
            # no gradient of what an encoder sees of the features
            to_inputs = size * dim + (2 * seen + dim) * hidden + (dim + size) * hidden
            total += 2 * weights + to_inputs
    return 2.0 * BATCH * total


def in_place_flops(total: Sequence[int], left: Sequence[int], right: Sequence[int], **_: Any) -> int:
    """Return the operations of a batched product that is added in place, which torch's counter does not know."""
    batch, rows, inner = left
    return 2 * batch * rows * inner * right[-1]


def share_in_use(trainer: Trainer) -> float:
    """Return which share of the weights belongs to features and latent dimensions that are there."""
    layout, plan, hidden = trainer.model.layout, trainer.model.plans[0], trainer.shared.model.hidden
    used = 0
    for size, dims in zip(layout.sizes, plan.dims.tolist(), strict=True):
        for level, dim in enumerate(dims):
            seen = sum(dims[:level])
            used += 2 * (size * dim + (seen + 1) * hidden) + (size + dim) * (2 * hidden + 1)
    return used / trainer.optimizer.weights.numel()


def growth() -> dict[str, float]:
    """Measure seconds an epoch as samples, features, categories and codes double."""
    arms: dict[str, Callable[[], object]] = {}
    for name, rows, sizes, settings in (
        ("10,000 rows, 139 features, 8 categories", ROWS, SIZES, {}),
        ("rows x 2", 2 * ROWS, SIZES, {}),
        ("features x 2", ROWS, tuple(2 * size for size in SIZES), {}),
        ("categories x 2", ROWS, (*SIZES, *SIZES), {}),
        ("hidden x 2", ROWS, SIZES, {"model.hidden": 64}),
        ("codes x 2", ROWS, SIZES, {"codes": 2}),
    ):
        arms[name] = make_trainer(table(rows, sizes), sizes, **settings).epoch
    seconds = interleaved(arms, repeats=3)
    return {f"{name}, s an epoch": value for name, value in seconds.items()}


def main() -> None:
    """Measure the parts asked for and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = tell_machine()
    found: dict[str, dict[str, float]] = {}
    for part in args.parts:
        with denormals_flushed():
            found[part] = {"reference": reference, "members": members, "peak": peak, "growth": growth}[part]()
        tell(part, found[part])
    print(f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    keep("step", found, known)


if __name__ == "__main__":
    main()
