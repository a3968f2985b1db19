"""How many trials run at a time and what each of them gets. Pure arithmetic on what the nodes have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from spinlock_dist.errors import SpinlockError
from study.config import ClusterConfig

Node = Mapping[str, float]
"""What a node has, by Ray's names: `CPU`, `GPU`."""


class ResourceError(SpinlockError):
    """More was asked for than there is."""

    exit_code = 2


@dataclass(frozen=True)
class Resources:
    """What a trial gets, and how many trials run at a time."""

    concurrent: int
    cpus: int
    gpus: float
    node_cpus: int = field(default=1, compare=False)
    """CPU cores of the largest node."""

    def roomier(self, doublings: int) -> Resources:
        """Return twice as much for a trial, so often or as far as a GPU, or without one the largest node, has it.

        Ray has no share of memory to give; what a trial leaves of a GPU's or a node's slots is memory it gets.
        """
        if self.gpus:
            return replace(self, gpus=min(self.gpus * 2**doublings, max(self.gpus, 1)))
        return replace(self, cpus=min(self.cpus * 2**doublings, max(self.cpus, self.node_cpus)))


def check_gpus(asked: int | None, available: int, where: str) -> int:
    """Return the GPUs to use: those asked for, or all. Raises `ResourceError` if there are fewer than asked for."""
    if asked is not None and asked > available:
        there = {0: "none", 1: "1 GPU"}.get(available, f"{available} GPUs")
        raise ResourceError(f"--gpus {asked}: {where} has {there}; use --gpus {available}" + _cpu_hint(available))
    return available if asked is None else asked


def _cpu_hint(available: int) -> str:
    return " (or leave --gpus out) to run on CPU" if available == 0 else ", or --gpus 0 to run on CPU"


def plan(nodes: Sequence[Node], config: ClusterConfig) -> Resources:
    """Return what each trial gets on `nodes`. Raises `ResourceError` if not even one trial fits anywhere.

    Ray packs fractions, so that eight trials with a quarter each would crowd two of eight GPUs: a trial is given
    1 / ceil(concurrent / GPUs), which spreads them.
    """
    gpus = check_gpus(config.gpus, sum(int(node.get("GPU", 0)) for node in nodes), "the cluster")
    share = _share(gpus, config.gpus_per_trial)
    fit = sum(_slots(node, config.cpus_per_trial, share) for node in nodes)
    if fit == 0:
        raise ResourceError(
            f"no node has room for a trial with {config.cpus_per_trial} CPUs and {share:g} GPUs: the largest has "
            f"{max((node.get('CPU', 0) for node in nodes), default=0):g} CPUs; lower cpus_per_trial or gpus_per_trial"
        )
    wanted = config.max_concurrent or fit
    if share:
        wanted = min(wanted, int(gpus / share + 1e-9))
    concurrent = min(fit, wanted)
    if 0 < share <= 1:
        share = 1 / math.ceil(concurrent / gpus)
    largest = int(max(node.get("CPU", 0) for node in nodes))
    return Resources(concurrent=concurrent, cpus=config.cpus_per_trial, gpus=share, node_cpus=largest)


def _share(gpus: int, asked: float | None) -> float:
    """Return GPUs per trial, so that whole trials fill a GPU."""
    if gpus == 0:
        return 0
    if asked is None or asked > 1:
        return asked or 1
    return 1 / int(1 / asked + 1e-9)


def _slots(node: Node, cpus: int, share: float) -> int:
    """Return how many trials fit on a node, by the scarcer of its resources."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    if share == 0:
        return by_cpu
    whole = int(node.get("GPU", 0))
    by_gpu = int(whole // share) if share > 1 else whole * round(1 / share)
    return min(by_cpu, by_gpu)
