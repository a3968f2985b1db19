"""Whether the folder of a study is the same one on every node: trials leave their checkpoints in it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from spinlock_dist.errors import ConfigError
from study.cluster.resources import ResourceError

SECONDS = 180.0
"""What a node may take to start a process and import the code."""

JOB_FOLDERS = "runtime_resources"
"""Part of the path of the folders that Ray unpacks a job's files in, and deletes."""


def check_lasting(runs: Path) -> None:
    """Raise `ConfigError` if `runs` is within the working folder of a Ray job."""
    if JOB_FOLDERS in runs.resolve().parts:
        raise ConfigError(f"--runs: Ray deletes {runs} when the job has ended; name a folder outside of the job's")


def check_storage(folder: Path) -> None:
    """Write in `folder` here, read it on every node that may run trials, and read here what was written there.

    Raises `ResourceError` naming the first node to which it is another folder, or that cannot run the code.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if all(node["NodeID"] == here for node in nodes):
        return
    token = uuid.uuid4().hex
    probe = folder / f".probe-{token}"
    probe.write_text(token)
    try:
        for task, node in [(_ask(node["NodeID"], probe, token), node) for node in nodes]:
            name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                written, complaint = ray.get(task, timeout=SECONDS)
            except Exception as error:
                said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                raise ResourceError(f"{name} cannot run trials: {said[0]}") from None
            if complaint or not (folder / written).exists():
                raise ResourceError(
                    f"{folder} is not the same folder on {name}{complaint and ': ' + complaint}; "
                    "choose --runs on storage that all nodes share"
                )
    finally:
        for left in folder.glob(f".probe-{token}*"):
            left.unlink(missing_ok=True)


def _ask(node: str, probe: Path, token: str) -> Any:
    pinned = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(cast(Any, answer)).options(num_cpus=0, max_retries=0, scheduling_strategy=pinned)
    return task.remote(probe, token)


def answer(probe: Path, token: str) -> tuple[str, str]:
    """The name of a file written beside `probe` on this node, and what is wrong there; empty if nothing is."""
    own = probe.with_name(f"{probe.name}-{uuid.uuid4().hex}")
    try:
        if probe.read_text() != token:
            return own.name, "it holds something else"
        own.touch()
    except OSError as error:
        return own.name, f"{error.strerror}"
    return own.name, ""
