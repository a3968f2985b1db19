"""Whether a cluster will run a study: every node is looked at, and trains a small trial."""

from __future__ import annotations

import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from spinlock_dist.config import PrepareConfig, SimulatorConfig, SplitConfig, TrainingConfig, TrialConfig
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.out_of_fold import run_folds
from spinlock_dist.prepare import prepare
from spinlock_dist.simulator import cached_dataset
from study.cluster.node_checks import Answer, Probe, check_lasting, node_name, trial_nodes, unusable_gpus, versions_here
from study.cluster.ray_cluster import preflight, running
from study.cluster.resources import GIB, ResourceError, Resources, slots
from study.config import ClusterConfig
from study.worker.trainable import Training, WorkerSetup, evaluate

OPERATORS, EPOCHS = 300, 60
"""Of the trial: about ten seconds, unless its code has to be compiled there."""
TRIAL_SECONDS = 300.0
"""What the trial of a node may take before it counts as wrong."""

ANSWER_SECONDS = 30.0
"""What Ray may take to answer who has no token."""


class Trained(NamedTuple):
    """What the trial of a node took."""

    seconds: float
    model: str
    """Of its device."""
    memory: int
    """Bytes that its process had at most."""


@dataclass(frozen=True)
class NodeCheck:
    """What was found of a node that may run trials."""

    name: str
    cpus: float
    memory: float
    """Bytes that Ray counts."""
    gpus: tuple[str, ...] = ()
    """Models, as torch names them; those that it cannot use are not among them."""
    versions: Mapping[str, str] = field(default_factory=dict)
    slots: int = 0
    trial_seconds: float | None = None
    wrong: tuple[str, ...] = ()
    """What keeps it from running trials as the others do, and what to do about it."""


@dataclass(frozen=True)
class ClusterCheck:
    """What was found of a cluster."""

    nodes: tuple[NodeCheck, ...]
    each: str
    """What a trial gets."""
    notes: tuple[str, ...]
    """What is not wrong and should be known."""

    @property
    def wrong(self) -> list[str]:
        """What is wrong, of all nodes."""
        return [line for node in self.nodes for line in node.wrong]

    def lines(self) -> list[str]:
        """The table, what is wrong, what should be known, and what follows from it."""
        rows: list[tuple[str, ...]] = [("node", "CPUs", "memory", "GPUs", "Python", "torch", "trials", "a trial took")]
        rows += [_row(node) for node in self.nodes]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        count = sum(node.slots for node in self.nodes)
        able = f"{count} trials at a time, {self.each} each"
        end = f"{len(self.wrong)} wrong; {able} once mended" if self.wrong else f"a study will run: {able}"
        return [*table, *(f"wrong: {line}" for line in self.wrong), *(f"note: {line}" for line in self.notes), end]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "usable": not self.wrong}


def _row(node: NodeCheck) -> tuple[str, ...]:
    models = [f"{node.gpus.count(model)} {model}" for model in sorted(set(node.gpus))]
    took = "-" if node.trial_seconds is None else f"{node.trial_seconds:.1f} s"
    versions = (node.versions.get(name, "-") for name in ("Python", "torch"))
    amounts = (f"{node.cpus:g}", f"{node.memory / GIB:.1f} GiB", ", ".join(models) or "-")
    return (node.name.removeprefix("node "), *amounts, *versions, str(node.slots), took)


def check_cluster(config: ClusterConfig, runs: Path) -> ClusterCheck:
    """Ask every node of the cluster at `config.address` what it has, and have it train a small trial in `runs`.

    Raises `ResourceError` if the cluster cannot be joined or no node has room for a trial, `ConfigError` if `runs`
    would be deleted with the job, or cannot be written here.
    """
    check_lasting(runs)
    preflight(config)
    new = not runs.exists()
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".check-", dir=runs.absolute()))
    except OSError as error:
        raise ConfigError(f"--runs {runs}: cannot be written: {error.strerror}; name another folder") from None
    try:
        with running(config) as cluster:
            notes = _open_to_all(ray.get_runtime_context().gcs_address)
            return _checked(trial_nodes(), cluster.resources, folder, notes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if new:
            with suppress(OSError):  # another has begun to use it
                runs.rmdir()


def _checked(nodes: Sequence[dict[str, Any]], resources: Resources, folder: Path, notes: list[str]) -> ClusterCheck:
    probe = Probe(folder)
    asked = [probe.ask(node) for node in nodes]
    answers: list[Answer | str] = []
    for node, question in zip(nodes, asked, strict=True):
        try:
            answers.append(probe.answer(node, question))
        except ResourceError as error:
            answers.append(str(error))
    able = [
        isinstance(answer, Answer) and slots([node["Resources"]], resources) > 0
        for node, answer in zip(nodes, answers, strict=True)
    ]
    begun = _begin_trials([node for node, can in zip(nodes, able, strict=True) if can], resources, folder)
    deadline = time.monotonic() + TRIAL_SECONDS
    found = []
    for node, answer in zip(nodes, answers, strict=True):
        trial = begun.get(node["NodeID"])
        found.append(_found(node, resources, answer, None if trial is None else _trained(node, trial, deadline)))
    notes += [_idle(node, resources) for node in nodes if _is_left_out(node, resources)]
    models = {model for each in found for model in each.gpus}
    if len(models) > 1:
        notes.append(f"GPUs of several models ({', '.join(sorted(models))}): trials on them differ by rounding")
    return ClusterCheck(tuple(found), str(resources), tuple(notes))


def _is_left_out(node: Mapping[str, Any], resources: Resources) -> bool:
    """Whether a node is without GPUs where trials have some, as a head often is."""
    return resources.gpus > 0 and not node["Resources"].get("GPU", 0)


def _idle(node: Mapping[str, Any], resources: Resources) -> str:
    has = node["Resources"]
    parts = f"{has['CPU']:g} CPUs, {has.get('GPU', 0):g} GPUs, {has.get('memory', 0) / GIB:.1f} GiB"
    return f"{node_name(node)} has no room for a trial with {resources}: {parts}"


def _found(
    node: Mapping[str, Any], resources: Resources, answer: Answer | str, trained: Trained | str | None
) -> NodeCheck:
    """What is right and wrong with a node; texts are what went wrong."""
    has = node["Resources"]
    fit = slots([has], resources)
    wrong = [said for said in (answer, trained) if isinstance(said, str)]
    if not fit and not _is_left_out(node, resources):
        wrong.append(f"{_idle(node, resources)}; give a trial less, or leave the node out")
    if isinstance(answer, Answer):
        wrong += filter(None, [unusable_gpus(node, answer), _other_versions(node, answer)])
    if isinstance(trained, Trained) and (many := fit * trained.memory) > has.get("memory", many):
        wrong.append(
            f"{node_name(node)} has {has['memory'] / GIB:.1f} GiB, and the {fit} trials that run there at a time take "
            f"{many / GIB:.1f}; say what one takes, so that fewer do: --memory-per-trial {trained.memory / GIB:.1f}"
        )
    return NodeCheck(
        name=node_name(node),
        cpus=has["CPU"],
        memory=has.get("memory", 0),
        gpus=answer.gpus if isinstance(answer, Answer) else (),
        versions=answer.versions if isinstance(answer, Answer) else {},
        slots=fit,
        trial_seconds=trained.seconds if isinstance(trained, Trained) else None,
        wrong=tuple(wrong),
    )


def _other_versions(node: Mapping[str, Any], answer: Answer) -> str:
    """A line if a node has other versions than the driver; else nothing."""
    here = versions_here()
    other = [name for name in here if answer.versions.get(name) != here[name]]
    if not other:
        return ""
    theirs = ", ".join(f"{name} {answer.versions.get(name, 'missing')}" for name in other)
    ours = ", ".join(f"{name} {here[name]}" for name in other)
    return (
        f"{node_name(node)} has {theirs}, the driver {ours}; install the same on both: pip install -c constraints.txt ."
    )


def _begin_trials(nodes: Sequence[Mapping[str, Any]], resources: Resources, folder: Path) -> dict[str, Any]:
    """A reference to the trial of each node, by its id."""
    asked = PrepareConfig(dataset=str(cached_dataset(SimulatorConfig(samples=OPERATORS))), split=SplitConfig(folds=1))
    config = TrialConfig(prepare=asked, training=TrainingConfig(epochs=EPOCHS))
    config = config.with_overrides({"compression.strategy": "uniform"})
    data = ray.put(prepare(asked))
    setup = WorkerSetup(run_folds, resources, folder / "snapshots", math.inf)
    begun: dict[str, Any] = {}
    for number, node in enumerate(nodes):
        kept = folder / f"{number}"
        training = Training(phase="baseline", arm="check", number=number, config=config, data=None, checkpoint=kept)
        task = ray.remote(cast(Any, train_here)).options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            memory=resources.memory or None,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        begun[node["NodeID"]] = task.remote(training, data, setup)
    return begun


def train_here(training: Training, data: Any, setup: WorkerSetup) -> Trained:
    """Train the trial of this node, and say what it took."""
    record = evaluate(training, data, setup)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Trained(record.seconds, record.model, peak)


def _trained(node: Mapping[str, Any], trial: Any, deadline: float) -> Trained | str:
    """What the trial of a node took, or what went wrong."""
    name = node_name(node)
    try:
        trained: Trained = ray.get(trial, timeout=max(1.0, deadline - time.monotonic()))
    except ray.exceptions.GetTimeoutError:
        ray.cancel(trial, force=True)
        return f"{name} has not ended a trial in {TRIAL_SECONDS:.0f} s: it is busy with other work, or very slow"
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, SpinlockError) else error
        return f"{name} failed a trial: {str(cause).strip().splitlines()[-1]}"
    except ray.exceptions.RayError as error:
        return f"{name} failed a trial: {(str(error) or type(error).__name__).splitlines()[0]}"
    return trained


def _open_to_all(address: str) -> list[str]:
    """A note if Ray answers who has no token."""
    command = [str(Path(sys.prefix) / "bin" / "ray"), "status", "--address", address]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment["RAY_AUTH_MODE"] = "disabled"
    try:
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    return [
        f"Ray at {address} asks for no token: whoever reaches it may run code there; RAY_AUTH_MODE=token on every node"
    ]
