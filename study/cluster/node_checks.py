"""Whether every node can run trials: it sees the folder of the study, where they leave checkpoints, and its GPUs."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, cast

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from spinlock_dist.cores import available_cores
from spinlock_dist.errors import ConfigError
from study.cluster.elastic import EVERY_SECONDS
from study.cluster.resources import ResourceError
from study.events import StudyEvents

SECONDS = 180.0
"""What a node may take to start a process and import the code."""

JOB_FOLDERS = "runtime_resources"
"""Part of the path of the folders that Ray unpacks a job's files in, and deletes."""


def check_lasting(runs: Path) -> None:
    """Raise `ConfigError` if `runs` is within the working folder of a Ray job."""
    if JOB_FOLDERS in runs.resolve().parts:
        raise ConfigError(f"--runs: Ray deletes {runs} when the job has ended; name a folder outside of the job's")


VERSIONS = ("torch", "numpy", "ray", "spinlock-dist")
"""Packages whose versions nodes are asked for."""


class Answer(NamedTuple):
    """What a node says."""

    written: str
    """Name of the file that it has written."""
    complaint: str
    """What is wrong with the folder there."""
    gpus: tuple[str, ...]
    """Models of the GPUs that torch can use."""
    versions: dict[str, str]
    """Of Python and `VERSIONS`; a package that is not there has none."""
    cores: int
    """That a process may use."""


class Probe:
    """A file in a folder, which nodes are asked to read, and to answer beside."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._token = uuid.uuid4().hex
        self._file = folder / f".probe-{self._token}"
        self._file.write_text(self._token)

    def ask(self, node: Mapping[str, Any]) -> Any:
        """A reference to the answer of a node."""
        pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(cast(Any, look_around)).options(num_cpus=0, max_retries=0, scheduling_strategy=pinned)
        return task.remote(self._file, self._token)

    def answer(self, node: Mapping[str, Any], asked: Any) -> Answer:
        """What a node said. Raises `ResourceError` if it is another folder there, or it cannot run the code."""
        name = node_name(node)
        try:
            answer: Answer = ray.get(asked, timeout=SECONDS)
        except Exception as error:
            said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ResourceError(f"{name} cannot run trials: {said[0]}") from None
        if answer.complaint or not (self._folder / answer.written).exists():
            raise ResourceError(
                f"{self._folder} is not the same folder on {name}{answer.complaint and ': ' + answer.complaint}; "
                "choose --runs on storage that all nodes share"
            )
        return answer

    def close(self) -> None:
        """Remove the file and all answers."""
        for left in self._folder.glob(f"{self._file.name}*"):
            left.unlink(missing_ok=True)


def node_name(node: Mapping[str, Any]) -> str:
    """A node as messages call it. Two may have one host name."""
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def trial_nodes() -> list[dict[str, Any]]:
    """The nodes that may run trials, as Ray lists them."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def check_nodes(folder: Path, gpus: bool = False, say: Callable[[str], None] = lambda _: None) -> frozenset[str]:
    """Write in `folder` here, read it on every node that may run trials, and read here what was written there.

    Where trials get `gpus`, `say` gets a line for each node that has some for Ray and not for torch; returned are the
    ids of those where torch can use them all. Raises `ResourceError` naming the first node to which it is another
    folder, or that cannot run the code.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = trial_nodes()
    if all(node["NodeID"] == here for node in nodes):
        count = torch.cuda.device_count()
        return frozenset(here for node in nodes if 0 < node["Resources"].get("GPU", 0) <= count)
    usable = set()
    probe = Probe(folder)
    try:
        for asked, node in [(probe.ask(node), node) for node in nodes]:
            try:
                answer = probe.answer(node, asked)
            except ResourceError:
                if _has_left(node):
                    continue
                raise
            missing = unusable_gpus(node, answer)
            if gpus and missing:
                say(missing)
            if answer.gpus and not missing:
                usable.add(node["NodeID"])
    finally:
        probe.close()
    return frozenset(usable)


def _has_left(node: Mapping[str, Any]) -> bool:
    """Whether a node that was there is there no more, as one that is preempted: nothing is wrong with the others."""
    return node["NodeID"] not in [each["NodeID"] for each in trial_nodes()]


def unusable_gpus(node: Mapping[str, Any], answer: Answer) -> str:
    """A line if a node has GPUs for Ray which torch cannot use; else nothing."""
    if (counted := node["Resources"].get("GPU", 0)) <= len(answer.gpus):
        return ""
    torch_there = answer.versions["torch"]
    return (
        f"{node_name(node)} has {counted:g} GPUs, of which torch {torch_there} there can use {len(answer.gpus)}: "
        "without one a trial runs on its CPU; is it a CUDA build, and the driver new enough?"
    )


class JoiningNodes(StudyEvents):
    """Has each node that joins while a study runs say whether it can run trials; `say` gets a line if it cannot.

    Nothing waits for the answers: trials that began there before do what they can.
    """

    def __init__(self, folder: Path, gpus: bool, say: Callable[[str], None]):
        self._folder, self._gpus, self._say = folder, gpus, say
        self._known = {node["NodeID"] for node in trial_nodes()}
        self._asked: list[tuple[Probe, Mapping[str, Any], Any]] = []
        self._looked = time.monotonic()

    def on_running(self, batches: Sequence[Sequence[int]]) -> None:
        """Look for new nodes, and for answers."""
        if time.monotonic() - self._looked < EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        for node in [node for node in trial_nodes() if node["NodeID"] not in self._known]:
            self._known.add(node["NodeID"])
            probe = Probe(self._folder)
            self._asked.append((probe, node, probe.ask(node)))
        answered = [each for each in self._asked if ray.wait([each[2]], timeout=0)[0]]
        self._asked = [each for each in self._asked if each not in answered]
        for said in filter(None, [self._heard(*each) for each in answered]):
            self._say(said)

    def on_search_end(self) -> None:
        """Wait no longer."""
        for probe, _, _ in self._asked:
            probe.close()
        self._asked = []

    def _heard(self, probe: Probe, node: Mapping[str, Any], asked: Any) -> str:
        try:
            answer = probe.answer(node, asked)
        except ResourceError as error:
            return "" if _has_left(node) else f"a node has joined that should leave: {error}"
        finally:
            probe.close()
        return unusable_gpus(node, answer) if self._gpus else ""


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
    return Answer(own.name, complaint, _gpu_models(), versions_here(), available_cores())


def versions_here() -> dict[str, str]:
    """The versions of this environment."""
    found = {"Python": platform.python_version()}
    for name in VERSIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, "torch": torch.__version__}


def _gpu_models() -> tuple[str, ...]:
    try:
        return tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    except (RuntimeError, torch.cuda.DeferredCudaCallError):  # one that is broken: none can be counted on
        return ()
