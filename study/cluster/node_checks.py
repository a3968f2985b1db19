"""Whether every node can run trials: it sees the folder of the study, where they leave checkpoints, and its GPUs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import ray
import torch
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


class Answer(NamedTuple):
    """What a node says: the name of the file that it has written, what is wrong there, and the GPUs that torch has."""

    written: str
    complaint: str
    gpus: int
    torch_version: str


def check_nodes(folder: Path, gpus: bool = False, say: Callable[[str], None] = lambda _: None) -> None:
    """Write in `folder` here, read it on every node that may run trials, and read here what was written there.

    Where trials get `gpus`, `say` gets a line for each node that has some for Ray and not for torch. Raises
    `ResourceError` naming the first node to which it is another folder, or that cannot run the code.
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
                answer: Answer = ray.get(task, timeout=SECONDS)
            except Exception as error:
                said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                raise ResourceError(f"{name} cannot run trials: {said[0]}") from None
            if answer.complaint or not (folder / answer.written).exists():
                raise ResourceError(
                    f"{folder} is not the same folder on {name}{answer.complaint and ': ' + answer.complaint}; "
                    "choose --runs on storage that all nodes share"
                )
            if gpus and (counted := node["Resources"].get("GPU", 0)) > answer.gpus:
                say(
                    f"{name} has {counted:g} GPUs, of which torch {answer.torch_version} there can use {answer.gpus}: "
                    "without one a trial runs on its CPU; is it a CUDA build, and the driver new enough?"
                )
    finally:
        for left in folder.glob(f".probe-{token}*"):
            left.unlink(missing_ok=True)


def _ask(node: str, probe: Path, token: str) -> Any:
    pinned = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(cast(Any, look_around)).options(num_cpus=0, max_retries=0, scheduling_strategy=pinned)
    return task.remote(probe, token)


def look_around(probe: Path, token: str) -> Answer:
    """Write a file beside `probe` on this node, and tell what is there."""
    own = probe.with_name(f"{probe.name}-{uuid.uuid4().hex}")
    complaint = ""
    try:
        if probe.read_text() == token:
            own.touch()
        else:
            complaint = "it holds something else"
    except OSError as error:
        complaint = f"{error.strerror}"
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # as Ray sets it for a task without GPUs
    return Answer(own.name, complaint, torch.cuda.device_count(), torch.__version__)
