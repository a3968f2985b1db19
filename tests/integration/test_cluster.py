"""Joining a cluster of several nodes: code, storage, versions, what it lacks."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster

from study import run
from study.cluster.held_devices import gpus_by_node, held
from study.cluster.node_checks import JoiningNodes, check_nodes, trial_nodes
from study.cluster.ray_cluster import running
from study.cluster.resources import ResourceError, Resources
from study.config import ClusterConfig
from study.pipeline import dry_run
from tests.toy import small_study


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Two nodes of one CPU each."""
    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1, num_gpus=0, include_dashboard=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_what_is_asked_for_is_waited_for_and_the_folder_is_checked_on_every_node(nodes, tmp_path):
    config = ClusterConfig(address=nodes.address, max_concurrent=3, cpus_per_trial=2, wait_for_nodes=0.1)
    with pytest.raises(
        ResourceError, match=r"no node has room for a trial with 2 CPUs.*; --wait-for-nodes 0.1 is over"
    ):
        running(config).__enter__()

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            nodes.add_node(num_cpus=2, num_gpus=0)

    with running(config.model_copy(update={"wait_for_nodes": 120}), say) as cluster:
        assert (cluster.resources, cluster.resources.expected) == (Resources(1, 2, 0), 3)
        assert len(said) == 2 and said[0].startswith("waiting up to 120 s for nodes: no node has room for a trial with")
        assert said[1] == "there is room for 1 of 3 trials: beginning with those"
        check_nodes(tmp_path, gpus=True, say=said.append)
        assert len(said) == 2, "no node has GPUs"
        assert not list(tmp_path.iterdir())

        before = os.getcwd()
        os.chdir(tmp_path)
        try:  # a path that means another folder in every process
            with pytest.raises(ResourceError, match=r"is not the same folder on node .*storage that all nodes share"):
                check_nodes(Path("/proc/self/cwd"))
        finally:
            os.chdir(before)
        assert not list(tmp_path.iterdir())
    assert not ray.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch has GPUs here")
def test_gpus_that_ray_counts_and_torch_has_not_are_named(nodes, tmp_path):
    added = nodes.add_node(num_cpus=1, num_gpus=2)
    said: list[str] = []
    try:
        with running(ClusterConfig(address=nodes.address)) as cluster:
            assert cluster.resources.gpus == 1
            assert check_nodes(tmp_path, gpus=True, say=said.append) == set()
            assert check_nodes(tmp_path, gpus=False, say=said.append) == set()
    finally:
        nodes.remove_node(added)
    assert len(said) == 1 and f"has 2 GPUs, of which torch {torch.__version__} there can use 0: " in said[0]


def test_a_device_that_leaves_with_its_node_while_it_is_taken_is_let_go(nodes, monkeypatch):
    added = nodes.add_node(num_cpus=1, num_gpus=2)
    ray.init(nodes.address, log_to_driver=False)
    try:
        there = gpus_by_node()
        assert there[added.node_id] == 2
        with held([(added.node_id, "GPU 1")]):
            while ray.available_resources().get("GPU") != 1:  # Ray counts what was given back a little later
                time.sleep(0.1)
        nodes.remove_node(added)
        while added.node_id in gpus_by_node():
            time.sleep(0.1)
        monkeypatch.setattr("study.cluster.held_devices.gpus_by_node", lambda: there)
        with held([(added.node_id, "GPU 1")]):
            pass
    finally:
        ray.shutdown()


def test_a_node_that_leaves_while_it_is_asked_is_no_fault_of_the_cluster(nodes, tmp_path, monkeypatch):
    added = nodes.add_node(num_cpus=1, num_gpus=0)
    ray.init(nodes.address, log_to_driver=False)
    try:
        joined, said = JoiningNodes(tmp_path, False, lambda line: said.append(line)), list[str]()
        looks = [trial_nodes()]
        assert added.node_id in [node["NodeID"] for node in looks[0]]
        nodes.remove_node(added)
        while added.node_id in [node["NodeID"] for node in trial_nodes()]:
            time.sleep(0.1)
        monkeypatch.setattr("study.cluster.node_checks.trial_nodes", lambda: looks.pop() if looks else trial_nodes())
        stale = looks[0]
        assert check_nodes(tmp_path) == set()
        monkeypatch.setattr("study.cluster.node_checks.EVERY_SECONDS", 0.0)
        joined._known.discard(added.node_id)
        looks.append(stale)
        while looks or joined._asked:
            joined.on_running([])
        assert said == [] and not list(tmp_path.iterdir())
    finally:
        ray.shutdown()


def test_a_cluster_on_which_others_run_is_said_to_be_busy(nodes):
    ray.init(nodes.address)
    room = int(ray.cluster_resources()["CPU"])
    holders = [ray.remote(num_cpus=1)(type("Holder", (), {"ready": lambda self: True})).remote() for _ in range(room)]
    said: list[str] = []
    try:
        ray.get([holder.ready.remote() for holder in holders])
        with running(ClusterConfig(address=nodes.address), said.append):
            assert said == ["the cluster is busy, 0 CPU free of the 1 of a trial: waiting for room"]
    finally:
        ray.shutdown()


def test_a_cluster_of_another_version_is_called_that(nodes):
    client = GcsClient(address=nodes.address)
    key, namespace = CLUSTER_METADATA_KEY, KV_NAMESPACE_CLUSTER
    stored = client.internal_kv_get(key, namespace=namespace)
    other = {**json.loads(stored), "ray_version": "2.9.3", "python_version": "3.10.12"}
    try:
        client.internal_kv_put(key, json.dumps(other).encode(), overwrite=True, namespace=namespace)
        with pytest.raises(ResourceError) as refused:
            running(ClusterConfig(address=nodes.address)).__enter__()
    finally:
        client.internal_kv_put(key, stored, overwrite=True, namespace=namespace)
    here = f"Ray {ray.__version__} and Python {platform.python_version()}"
    assert str(refused.value) == (
        f"the cluster at {nodes.address} has Ray 2.9.3 and Python 3.10.12, this environment {here}; "
        "they must be the same on both sides"
    )


def test_that_the_cluster_is_too_small_shows_before_any_data_is_prepared(nodes, tmp_path):
    config = small_study(tmp_path, tmp_path / "missing.h5")  # preparing it would be another error
    cluster = ClusterConfig(address=nodes.address, gpus=1)
    refusal = "--gpus 1: the cluster has none.*, or wait for nodes that come on demand: --wait-for-nodes SECONDS"
    with pytest.raises(ResourceError, match=refusal):
        run(config.model_copy(update={"cluster": cluster}))
    with pytest.raises(ResourceError, match=refusal):
        dry_run(config.model_copy(update={"cluster": cluster}))
    assert not ray.is_initialized()
    assert not (tmp_path / "runs" / "s").exists()
