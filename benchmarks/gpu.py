"""What trials in lock step cost on a GPU: start and step apart, by members; and whether its figures are a processor's.

    python benchmarks/gpu.py                                          on CUDA, 10,000 rows x 139 features, 8 categories
    python benchmarks/gpu.py --device cpu --members 1 4 --rows 2000   what can be seen without one

`start`: principal axes and k-means of all members. `step`: forward, backward, weights and codebooks. `operator calls`
and `waits` of both are what the device is asked for, and how often the host waits for it; those of the start are
counted without a device and hold for every one (benchmarks/calls.py). `figures`: a training of default settings on
both. Goals: the calls of 32 starts within 10 % of those of one, and no more than one wait a level.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from measure import keep, tell, tell_machine
from step import BATCH, SIZES, make_trainer, table

from benchmarks.calls import CallCounter, count_start
from spinlock_dist.config import TrialConfig
from spinlock_dist.device import denormals_flushed, resolve_device
from spinlock_dist.model.initialization import initialize
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial
from spinlock_dist.training.trainer import Trainer

SETTINGS = {"training.engine": "torch", "model.initialization": "data"}


def main() -> None:
    """Print a table for each number of members and one of the figures, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--members", type=int, nargs="+", default=(1, 8, 32, 128))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device = resolve_device(args.device)
    torch.set_num_threads(1)
    known = {**tell_machine(), "device": name_of(device), "rows": args.rows}
    print(known["device"])
    found: dict[str, Any] = {}
    with denormals_flushed():
        for members in args.members:
            found[f"{members} members"] = lock_step(members, args.rows, device, args.repeats)
            tell(f"{members} members", found[f"{members} members"])
        found["figures"] = figures(device)
        tell("figures", found["figures"])
    keep("gpu", found, known)


def name_of(device: torch.device) -> str:
    """Return the card's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def lock_step(members: int, rows: int, device: torch.device, repeats: int) -> dict[str, float]:
    """Measure the start and the step of so many members, and what they take of the device's memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer = make_trainer(table(rows, SIZES), SIZES, members, **SETTINGS, **{"training.device": str(device)})
    x_MBGF = trainer.train_NGF[torch.arange(BATCH, device=device).expand(members, -1)]
    with CallCounter(device.type) as counted:
        trainer.step(x_MBGF)
    start = seconds(lambda: start_again(trainer), device, repeats)
    step = seconds(lambda: trainer.step(x_MBGF), device, 4 * repeats)
    of_start = count_start(trainer.shared, trainer.data.categories, trainer.model.plans, rows)
    found = {
        "ms a start": 1e3 * start,
        "ms a start, each member": 1e3 * start / members,
        "operator calls a start": of_start.calls,
        "kernels a start": of_start.kernels,
        "waits a start": sum(of_start.waits.values()),
        "ms a step": 1e3 * step,
        "ms a step, each member": 1e3 * step / members,
        "operator calls a step": counted.calls,
        "kernels a step": counted.kernels,
        "waits a step": sum(counted.waits.values()),
    }
    if device.type == "cuda":
        found["peak of the device's memory, MB"] = torch.cuda.max_memory_allocated(device) / 1e6
    return found


def start_again(trainer: Trainer) -> None:
    """Start every member, as at the beginning."""
    seeds = [member.config.seed for member in trainer.members]
    initialize(trainer.model, trainer.train_NGF, seeds, trainer.batch_size)


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median seconds of a run, the device's work included, after one that does not count."""
    found = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - began)
    return median(found[1:])


def figures(device: torch.device) -> dict[str, float]:
    """Return figures of one trial, trained by the engine of each device that it was given: they differ by rounding."""
    config = TrialConfig().with_overrides(
        {"prepare.simulator.samples": 500, "prepare.simulator.grid": 16, "prepare.simulator.steps": 16}
    )
    data, found = prepare(config.prepare), {}
    for name, overrides in {
        "compiled, cpu": {"training.device": "cpu"},
        f"torch, {device.type}": {"training.device": str(device), "training.engine": "torch"},
    }.items():
        began = time.perf_counter()
        outcome = run_trial(config.with_overrides(overrides), data)
        found[f"seconds, {name}"] = time.perf_counter() - began
        for figure in ("fvu_mean", "fvu_worst", "imbalance", "utilization"):
            found[f"{figure}, {name}"] = getattr(outcome.validation, figure)
    return found


if __name__ == "__main__":
    main()
