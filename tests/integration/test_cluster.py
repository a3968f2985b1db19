"""Joining a cluster of several nodes: code, storage, and nodes that come late."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from study import run
from study.cluster.ray_cluster import running
from study.cluster.resources import ResourceError, Resources
from study.cluster.shared_folder import check_storage
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
    config = ClusterConfig(address=nodes.address, max_concurrent=3, wait_for_nodes=0.1)
    with pytest.raises(ResourceError, match=r"room for 2 of 3 trials with 1 CPU each; --wait-for-nodes 0.1 is over"):
        running(config).__enter__()

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        nodes.add_node(num_cpus=1, num_gpus=0)

    with running(config.model_copy(update={"wait_for_nodes": 120}), say) as cluster:
        assert cluster.resources == Resources(3, 1, 0)
        assert said == ["waiting up to 120 s for nodes: there is room for 2 of 3 trials with 1 CPU each"]
        check_storage(tmp_path)
        assert not list(tmp_path.iterdir())

        before = os.getcwd()
        os.chdir(tmp_path)
        try:  # a path that means another folder in every process
            with pytest.raises(ResourceError, match=r"is not the same folder on node .*storage that all nodes share"):
                check_storage(Path("/proc/self/cwd"))
        finally:
            os.chdir(before)
        assert not list(tmp_path.iterdir())
    assert not ray.is_initialized()


def test_that_the_cluster_is_too_small_shows_before_any_data_is_prepared(nodes, tmp_path):
    config = small_study(tmp_path, tmp_path / "missing.h5")  # preparing it would be another error
    cluster = ClusterConfig(address=nodes.address, gpus=1)
    with pytest.raises(ResourceError, match="--gpus 1: the cluster has none"):
        run(config.model_copy(update={"cluster": cluster}))
    with pytest.raises(ResourceError, match="--gpus 1: the cluster has none"):
        dry_run(config.model_copy(update={"cluster": cluster}))
    assert not ray.is_initialized()
    assert not (tmp_path / "runs" / "s").exists()
