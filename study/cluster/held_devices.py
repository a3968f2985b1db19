"""Devices that nothing is to run on: Ray gives a device to whoever asks, so the study takes them itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SECONDS = 60.0
"""What a node may take to start a process for each of its devices."""


class Holder:
    """A process that has a device and does nothing with it."""

    def name(self) -> str:
        """The device, by the name that records use."""
        return f"GPU {ray.get_gpu_ids()[0]}"


def gpus_by_node() -> dict[str, int]:
    """The GPUs of each node that is there, by its id."""
    return {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]}


@contextmanager
def held(devices: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Take the devices `(node id, name)` meanwhile.

    Ray does not say which device a process will get. So all that are free on a node are taken, and the others given
    back. A device that is in use is not taken.
    """
    kept = _take(set(devices))
    try:
        yield
    finally:
        for handle in kept:
            ray.kill(handle)


def _take(wanted: set[tuple[str, str]]) -> list[Any]:
    kept: list[Any] = []
    there = gpus_by_node()
    for node_id in {node_id for node_id, _ in wanted} & there.keys():
        pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
        start = ray.remote(cast(Any, Holder)).options(num_cpus=0, num_gpus=1, scheduling_strategy=pinned)
        named = {handle.name.remote(): handle for handle in [start.remote() for _ in range(there[node_id])]}
        ready, _ = ray.wait(list(named), num_returns=len(named), timeout=SECONDS)
        of_use = [named[name] for name in ready if (node_id, _told(name)) in wanted]
        for handle in named.values():
            if handle not in of_use:
                ray.kill(handle)
        kept += of_use
    return kept


def _told(name: Any) -> str:
    """The name of a device, empty if its node has left meanwhile."""
    try:
        return str(ray.get(name))
    except ray.exceptions.RayError:
        return ""
