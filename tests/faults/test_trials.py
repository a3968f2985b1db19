"""One study on three simulated nodes in which every fault that a trial can meet happens once, a lost node included."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import ray
from ray.cluster_utils import Cluster

from results.records.trial_record import TrialRecord, feasible_records
from search_spaces import load_space
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DivergedError
from spinlock_dist.training.snapshot import Snapshots
from study import run
from study.config import ClusterConfig
from tests.faults.conftest import Ledger
from tests.toy import ONE_PARAMETER, make_toy, small_study

FAULTS = ("exception", "non-finite", "killed", "exits", "out of memory", "torn snapshot", "node lost")
TRIALS = 10


@dataclass
class Nodes:
    """A head without CPUs and two nodes with two CPUs and a GPU each, all on this machine; the GPUs are logical."""

    cluster: Cluster = field(default_factory=lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0}))

    def __post_init__(self) -> None:
        self.nodes = [self.cluster.add_node(num_cpus=2, num_gpus=1) for _ in range(2)]

    def remove_when_named(self, file: Path) -> None:
        """Remove the node whose id is written to `file`, once it is."""
        deadline = time.monotonic() + 300
        while not (file.exists() and file.read_text()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        self.cluster.remove_node(next(node for node in self.nodes if node.node_id == file.read_text()))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    ray.init(address=nodes.cluster.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.cluster.shutdown()


def each_once(folder: Path):
    """Return a fault that meets each of `FAULTS` in the third epoch of another trial, and writes down in which."""

    def claim(config: TrialConfig) -> str | None:
        me = f"{config.compression.sharpness!r}"
        for kind in FAULTS:
            try:
                handle = os.open(folder / kind, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                if (folder / kind).read_text() == me:
                    return None  # it has met its fault before
                continue
            os.write(handle, me.encode())
            os.close(handle)
            return kind
        return None

    def meet(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.compression.strategy == "uniform" or epoch != 4 or (kind := claim(config)) is None:
            return
        if kind == "exception":
            raise ZeroDivisionError("a bug")
        if kind == "non-finite":
            raise DivergedError(epoch, "commitment")
        if kind == "out of memory":
            raise MemoryError("no room")
        if kind == "exits":
            os._exit(1)
        if kind == "node lost":
            (folder / "node").write_text(ray.get_runtime_context().get_node_id())
            time.sleep(300)
        if kind == "torn snapshot":
            snapshots.path.write_bytes(snapshots.path.read_bytes()[:20])
        os.kill(os.getpid(), signal.SIGKILL)

    return meet


EXPECTED = {
    # state, kind and, of each attempt: how it ended, from which epoch it went on, the last it reported, its GPU
    "exception": ("failed", "exception", [("exception", 0, 3, 0.5)]),
    "non-finite": ("diverged", "non-finite", [("non-finite", 0, 3, 0.5)]),
    "killed": ("complete", "", [("worker lost", 0, 3, 0.5), ("", 3, 6, 0.5)]),
    "exits": ("complete", "", [("worker lost", 0, 3, 0.5), ("", 3, 6, 0.5)]),
    "out of memory": ("complete", "", [("out of memory", 0, 3, 0.5), ("", 3, 6, 1.0)]),
    "torn snapshot": ("complete", "", [("worker lost", 0, 3, 0.5), ("", 2, 6, 0.5)]),
    "node lost": ("complete", "", [("node lost", 0, 3, 0.5), ("", 3, 6, 0.5)]),
    "nothing": ("complete", "", [("", 0, 6, 0.5)]),
}


def test_every_fault_of_a_trial_is_survived(nodes: Nodes, dataset: Path, tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "met").mkdir()
    watcher = threading.Thread(target=nodes.remove_when_named, args=(tmp_path / "met" / "node",))
    watcher.start()
    cluster = ClusterConfig(gpus=2, gpus_per_trial=0.5, snapshot_seconds=0)
    config = small_study(tmp_path, dataset, ONE_PARAMETER, trials=TRIALS, cluster=cluster)
    result = run(config, objective=make_toy(each_once(tmp_path / "met")))
    watcher.join()

    met = {(tmp_path / "met" / kind).read_text(): kind for kind in FAULTS}
    space = load_space(config.space)
    befell: dict[str, list[TrialRecord]] = {fault: [] for fault in (*FAULTS, "nothing")}
    for record in result.search:
        trial = space.to_config(config.base, record.params)
        fault = met.get(f"{trial.compression.sharpness!r}", "nothing")
        befell[fault].append(record)
        story = [(attempt.kind, attempt.start, attempt.epochs, attempt.gpus) for attempt in record.attempts]
        state, kind, expected = EXPECTED[fault]
        ends, expected_ends = [attempt[0] for attempt in story], [attempt[0] for attempt in expected]
        assert (record.state, record.kind) == (state, kind), (record.number, fault, story)
        if fault != "node lost" and "node lost" in ends:  # it shared the node with the one that named it
            # beside a fault of its own, or in the place of one: a process that dies with its node is lost with it
            beside = [end for end in ends if end != "node lost"]
            in_place = ["worker lost" if end == "node lost" else end for end in ends]
            assert expected_ends in (beside, in_place), (record.number, fault, story)
        else:
            assert story == expected, (record.number, fault, story)
    for fault in FAULTS:
        assert len(befell[fault]) == 1
        state, _, attempts = EXPECTED[fault]
        how = state if len(attempts) == 1 else f"went on from epoch {attempts[1][1]} with {attempts[1][3]:g} GPU"
        ledger.enter(fault, "in epoch 4 of a trial", how, result.search, TRIALS, befell[fault])
    assert len(ray.nodes()) == 3
    assert sum(node["Alive"] for node in ray.nodes()) == 2

    table = pd.read_parquet(result.folder.trials).set_index(["phase", "number"]).loc["search"]
    assert table["attempts"].tolist() == [len(record.attempts) for record in result.search]
    assert not list(result.folder.snapshots.iterdir())
    assert {path.name for path in result.folder.tune.iterdir()} == {"checkpoints", "snapshots"}  # no clutter of Tune's
    best = sorted(f"trial-{record.number:04d}" for record in feasible_records(result.search)[:5])
    assert sorted(path.name for path in (result.folder.tune / "checkpoints").iterdir()) == ["baseline", *best]
    assert result.verdict.choice is not None
