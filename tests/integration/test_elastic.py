"""A cluster that grows while a study runs: new nodes are used, and an autoscaler is asked for what is still needed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._private.ray_constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.cluster_utils import Cluster
from ray.experimental.internal_kv import _internal_kv_get
from rich.console import Console

from spinlock_dist.config import TrialConfig
from spinlock_dist.training.snapshot import Snapshots
from study import run
from study.cluster.node_checks import JoiningNodes
from study.cluster.ray_cluster import running
from study.config import ClusterConfig, FinalsConfig
from tests.toy import ONE_PARAMETER, Fault, Printed, make_toy, small_study, write_dataset

TRIALS, EPOCHS = 20, 6
TOGETHER = 6
WAIT_SECONDS = 240


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A head of two CPUs."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def stored_request() -> list[dict[str, float]]:
    """What the autoscaler of this cluster would read."""
    return json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL) or "[]")


class Asked(Printed):
    """Notes what is asked for whenever a line is printed."""

    def __init__(self, **changes):
        super().__init__(**changes)
        self.requests: list[int] = []

    def write(self, text: str) -> int:
        self.requests.append(len(stored_request()))
        return super().write(text)


def meeting(folder: Path, together: int) -> Fault:
    """Return what trainings do before each epoch: note how many run, and once `joined` is there wait for `together`.

    They meet once, at the start of a training, and wait at most `WAIT_SECONDS`.
    """
    epochs, seconds = EPOCHS, WAIT_SECONDS

    def meet(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        here = folder / "running" / str(os.getpid())
        here.touch()
        if epoch == epochs:
            here.unlink()
            return
        if not (folder / "joined").exists():
            (folder / "before" / str(len(list(here.parent.iterdir())))).touch()
        if epoch > 2 or not (folder / "joined").exists():
            return
        (folder / "places" / ray.get_runtime_context().get_node_id()).touch()
        deadline = time.monotonic() + seconds
        while not (folder / "met").exists() and time.monotonic() < deadline:
            if len(list(here.parent.iterdir())) >= together:
                (folder / "met").touch()
            time.sleep(0.05)

    for name in ("running", "before", "places"):
        (folder / name).mkdir()
    return meet


def test_nodes_that_join_run_trials_and_what_is_asked_for_follows_what_is_left(nodes: Cluster, tmp_path: Path) -> None:
    def join() -> None:
        nodes.add_node(num_cpus=4, num_gpus=0)
        (tmp_path / "joined").touch()

    cluster = ClusterConfig(gpus=0, max_concurrent=TOGETHER, wait_for_nodes=60, snapshot_seconds=0)
    finals = FinalsConfig(replicates=2, seeds=1)
    dataset = write_dataset(tmp_path / "table.parquet")
    config = small_study(tmp_path, dataset, ONE_PARAMETER, trials=TRIALS, cluster=cluster, finals=finals)
    printed = Asked(trial_1=join)
    objective = make_toy(meeting(tmp_path, TOGETHER), seconds=0.1)
    result = run(config, objective=objective, console=Console(file=printed, width=200))

    assert [record.state for record in result.search] == ["complete"] * TRIALS
    assert not any(record.attempts[1:] for record in result.search)
    said = printed.getvalue()
    assert "should leave" not in said and not list(result.folder.path.glob(".probe-*"))
    assert "there is room for 2 of 6 trials: beginning with those" in said
    assert said.count("nodes have joined: room for 6 trials, was 2") == 1
    assert max(int(path.name) for path in (tmp_path / "before").iterdir()) <= 2
    assert (tmp_path / "met").exists(), "never did six trials run at a time"
    assert {path.name for path in (tmp_path / "places").iterdir()} == {node["NodeID"] for node in ray.nodes()}

    asked = printed.requests
    search = asked[: asked.index(1) + 1]  # all that was asked for until the last trials, then ever less
    assert search[0] == TOGETHER and set(search) == {6, 5, 4, 3, 2, 1}
    assert search == sorted(search, reverse=True)
    assert max(asked[len(search) :]) == TOGETHER  # the finals
    assert stored_request() == []


def test_a_node_that_joins_and_has_another_folder_is_named(nodes: Cluster, tmp_path: Path) -> None:
    said: list[str] = []
    before = os.getcwd()
    folder = Path("/proc/self/cwd")  # another folder in every process
    watch = JoiningNodes(folder, True, said.append)
    added = nodes.add_node(num_cpus=1, num_gpus=1)
    os.chdir(tmp_path)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not said and time.monotonic() < deadline:
            watch.on_running([])
            time.sleep(0.1)
        nodes.remove_node(added)
    finally:
        os.chdir(before)
    [line] = said
    assert line.startswith("a node has joined that should leave: /proc/self/cwd is not the same folder on node")
    assert not list(tmp_path.iterdir())


def test_a_study_that_is_only_tried_asks_for_one_place(nodes: Cluster) -> None:
    config = ClusterConfig(gpus=0, max_concurrent=9, cpus_per_trial=2, wait_for_nodes=60)
    with running(config, most=1) as cluster:
        assert cluster.resources.expected == 9
        assert stored_request() == [{"CPU": 2}]
    assert stored_request() == []
