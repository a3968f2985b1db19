"""How many trials run at a time and what each of them gets. Pure arithmetic on what the nodes have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from spinlock_dist.errors import SpinlockError
from study.config import ClusterConfig

GIB = 2**30
MOST_MEMBERS = 32
LEAST_BATCHES = 4

Node = Mapping[str, float]
"""What a node has, by Ray's names: `CPU`, `GPU`, and `memory` in bytes."""


class ResourceError(SpinlockError):
    """More was asked for than there is."""

    exit_code = 2


@dataclass(frozen=True)
class Resources:
    """What a trial gets, and how many trials run at a time."""

    concurrent: int
    """Trials for which there is room at the start."""
    cpus: int
    gpus: float
    memory: int = 0
    """Bytes of its node's memory that Ray sets aside for a trial; 0 if none was asked for."""
    most: int | None = field(default=None, compare=False)
    """Trials at a time at most, however many nodes join; None for no limit."""
    grows: bool = field(default=False, compare=False)
    """Whether nodes that were asked for may still come."""
    node_cpus: int = field(default=1, compare=False)
    """CPU cores of the largest node."""
    node_memory: int = field(default=0, compare=False)
    """Bytes that the node with the most memory has."""

    def scaled(self, resource_doublings: int) -> Resources:
        """This many doublings of what a trial gets, as far as one GPU, or without GPUs the largest node, has it.

        Ray limits neither GPU memory nor node memory: a trial gets more because fewer run beside it.
        """
        times = 2**resource_doublings
        wider = replace(self, memory=min(self.memory * times, max(self.memory, self.node_memory)))
        if self.gpus:
            return replace(wider, gpus=min(self.gpus * times, max(self.gpus, 1)))
        return replace(wider, cpus=min(self.cpus * times, max(self.cpus, self.node_cpus)))

    @property
    def expected(self) -> int:
        """Trials at a time once all nodes that were asked for have come."""
        return self.most if self.grows and self.most else self.concurrent

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray is to reserve for a trial, by its names; what is not needed is left out."""
        return {"CPU": self.cpus} | {
            name: amount for name, amount in (("GPU", self.gpus), ("memory", self.memory)) if amount
        }

    def __str__(self) -> str:
        """What a trial gets, in words."""
        parts = [f"{self.cpus} CPU{'s' * (self.cpus > 1)}"]
        parts += [f"{self.gpus:.3g} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        parts += [f"{self.memory / GIB:.3g} GiB"] if self.memory else []
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


def check_gpus(asked: int | None, available: int, where: str, later: str = "") -> int:
    """The GPUs to use: those asked for, or all. Raises `ResourceError`, which ends in `later`, if there are fewer than
    asked for."""
    if asked is not None and asked > available:
        there = {0: "none", 1: "1 GPU"}.get(available, f"{available} GPUs")
        raise ResourceError(f"--gpus {asked}: {where} has {there}; use --gpus {available}{_cpu_hint(available)}{later}")
    return available if asked is None else asked


def _cpu_hint(available: int) -> str:
    return " (or leave --gpus out) to run on CPU" if available == 0 else ", or --gpus 0 to run on CPU"


def plan(nodes: Sequence[Node], config: ClusterConfig) -> Resources:
    """What each trial gets on `nodes`. Raises `ResourceError` if not even one trial fits anywhere.

    Where nodes are waited for, GPUs that are asked for may still come: one is enough to begin with.

    Ray packs fractions: eight trials with a quarter each would crowd two of eight GPUs. A trial is given the largest
    share with which as many still fit, node by node, which spreads them.
    """
    grows = config.wait_for_nodes > 0
    later = ", or wait for nodes that come on demand: --wait-for-nodes SECONDS" if config.address and not grows else ""
    there = sum(int(node.get("GPU", 0)) for node in nodes)
    gpus = config.gpus if grows and config.gpus else check_gpus(config.gpus, there, "the cluster", later)
    asked = _asked(config, gpus)
    fit = _fit(nodes, asked)
    if fit == 0:
        raise ResourceError(
            f"no node has room for a trial with {asked}: {_biggest(nodes)}; lower "
            + " or ".join(f"--{name}-per-trial" for name in _given(asked))
            + later
        )
    concurrent = min(fit, asked.most or fit)
    if asked.gpus and not (grows and config.gpus):
        fewest, most = math.ceil(concurrent / gpus), round(1 / asked.gpus)
        shares = (replace(asked, gpus=1 / trials) for trials in range(fewest, most))
        asked = next((each for each in shares if _fit(nodes, each) >= concurrent), asked)
    return replace(
        asked,
        concurrent=concurrent,
        grows=grows,
        node_cpus=int(max(node.get("CPU", 0) for node in nodes)),
        node_memory=int(max(node.get("memory", 0) for node in nodes)),
    )


def slots(nodes: Sequence[Node], resources: Resources) -> int:
    """How many trials run at a time on `nodes`, each with the `resources` that a plan has given it."""
    fit = _fit(nodes, resources)
    return fit if resources.most is None else min(fit, resources.most)


def _asked(config: ClusterConfig, gpus: int) -> Resources:
    """What `config` asks for, of so many GPUs: what a trial gets at least, and how many run at a time at most.

    Where GPUs are yet to come, their number alone says how far the trials can be spread.
    """
    share = _share(gpus, config.gpus_per_trial)
    limits = [config.max_concurrent, int(config.gpus / share + 1e-9) if config.gpus and share else None]
    most = min((limit for limit in limits if limit), default=None)
    if share and most and config.wait_for_nodes and config.gpus:
        share = 1 / math.ceil(most / gpus)
    return Resources(1, config.cpus_per_trial, share, int((config.memory_per_trial or 0) * GIB), most)


def members_per_worker(config: ClusterConfig, resources: Resources, trials: int, workers: int = 1) -> int:
    """How many of `trials` a worker trains in lock step, where there are so many workers, or are expected.

    On GPUs as many as leave every worker `LEAST_BATCHES` trial batches one after another, at most `MOST_MEMBERS`:
    trials suggested at once cannot learn from one another.
    """
    if config.members_per_trial != "auto":
        return config.members_per_trial
    if not resources.gpus:
        return 1
    return max(1, min(MOST_MEMBERS, trials // (LEAST_BATCHES * max(workers, resources.expected))))


def demand(config: ClusterConfig) -> list[dict[str, float]]:
    """What an autoscaling cluster is to provide: a bundle for each trial that `config` wants at a time."""
    asked = _asked(config, config.gpus or int(config.gpus is None and config.gpus_per_trial is not None))
    return [asked.bundle] * (asked.most or 1)


def taken(free: Node, resources: Resources) -> str:
    """Of what others leave too little for one trial, in words; empty if it has room."""
    missing = {name: amount for name, amount in resources.bundle.items() if free.get(name, 0) < amount - 1e-9}
    return ", ".join(
        f"{free.get(name, 0):g} {name} free of the {amount:g} of a trial" for name, amount in missing.items()
    )


def _given(asked: Resources) -> list[str]:
    return ["cpus", *(["gpus"] if asked.gpus else []), *(["memory"] if asked.memory else [])]


def _biggest(nodes: Sequence[Node]) -> str:
    """The most that any node has of each resource; no single node need have all of it."""
    if not nodes:
        return "there is none"
    most = {name: max(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU", "memory")}
    return f"the largest have {most['CPU']:g} CPUs, {most['GPU']:g} GPUs and {most['memory'] / GIB:.3g} GiB"


def _share(gpus: int, asked: float | None) -> float:
    """GPUs per trial, so that whole trials fill a GPU."""
    if gpus == 0:
        return 0
    return 1 / int(1 / asked + 1e-9) if asked else 1


def _fit(nodes: Sequence[Node], asked: Resources) -> int:
    """How many trials fit on the nodes, each on one of them."""
    return sum(_slots(node, asked) for node in nodes)


def _slots(node: Node, asked: Resources) -> int:
    """How many trials fit on a node, by the scarcest of its resources."""
    fit = [int(node.get("CPU", 0) // asked.cpus)]
    if asked.memory:
        fit.append(int(node.get("memory", 0) // asked.memory))
    if asked.gpus:
        fit.append(int(node.get("GPU", 0)) * round(1 / asked.gpus))
    return min(fit)
