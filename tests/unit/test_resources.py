"""What trials get on given nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError
from study.cluster.resources import (
    GIB,
    ResourceError,
    Resources,
    check_gpus,
    demand,
    members_per_worker,
    plan,
    slots,
    taken,
)
from study.config import ClusterConfig

EIGHT = [{"CPU": 64, "GPU": 8}]
UNEQUAL = [{"CPU": 8, "GPU": 8}, {"CPU": 64, "GPU": 8}]


@pytest.mark.parametrize(
    ("nodes", "settings", "expected"),
    [
        ([{"CPU": 2}], {}, Resources(2, 1, 0)),
        ([{"CPU": 8}], {"cpus_per_trial": 3}, Resources(2, 3, 0)),
        ([{"CPU": 3}, {"CPU": 3}], {"cpus_per_trial": 2}, Resources(2, 2, 0)),  # per node, not 6 // 2
        ([{"CPU": 8}], {"max_concurrent": 3}, Resources(3, 1, 0)),
        (EIGHT, {}, Resources(8, 1, 1)),
        (EIGHT, {"gpus": 0}, Resources(64, 1, 0)),
        (EIGHT, {"gpus": 4}, Resources(4, 1, 1)),
        (EIGHT, {"gpus_per_trial": 0.25}, Resources(32, 1, 0.25)),
        (EIGHT, {"gpus_per_trial": 0.25, "max_concurrent": 8}, Resources(8, 1, 1)),  # spread, not packed on two
        (EIGHT, {"gpus_per_trial": 0.3}, Resources(24, 1, 1 / 3)),
        (UNEQUAL, {"gpus_per_trial": 0.25}, Resources(40, 1, 0.25)),  # at a third, 8 and 24 would fit
        (UNEQUAL, {"gpus_per_trial": 0.25, "max_concurrent": 24}, Resources(24, 1, 0.5)),
        ([{"CPU": 4, "GPU": 8}], {}, Resources(4, 1, 1)),
        ([{"CPU": 8, "memory": 7 * GIB}], {"memory_per_trial": 2}, Resources(3, 1, 0, 2 * GIB)),
    ],
)
def test_plan(nodes, settings, expected):
    assert plan(nodes, ClusterConfig(**settings)) == expected


def test_more_gpus_than_there_are_is_refused_with_the_way_out():
    with pytest.raises(ResourceError, match=r"--gpus 8: this machine has none.*to run on CPU") as refused:
        check_gpus(8, 0, "this machine")
    assert refused.value.exit_code == 2
    with pytest.raises(ResourceError, match=r"--gpus 8: the cluster has 2 GPUs; use --gpus 2"):
        plan([{"CPU": 4, "GPU": 2}], ClusterConfig(gpus=8))


@pytest.mark.parametrize(("settings", "nodes"), [({"gpus": 8}, []), ({}, []), ({"cpus_per_trial": 2}, [{"CPU": 1}])])
def test_a_joined_cluster_that_is_too_small_may_grow(settings, nodes):
    with pytest.raises(ResourceError, match=r"or wait for nodes that come on demand: --wait-for-nodes SECONDS$"):
        plan(nodes, ClusterConfig(address="auto", **settings))


def test_what_others_have_taken_is_named():
    wanted = Resources(2, 2, 0.5)
    assert taken({"CPU": 2, "GPU": 0.5}, wanted) == ""
    assert taken({"CPU": 1, "GPU": 4}, wanted) == "1 CPU free of the 2 of a trial"
    assert taken({}, wanted) == "0 CPU free of the 2 of a trial, 0 GPU free of the 0.5 of a trial"


def test_a_trial_that_fits_on_no_node_is_refused():
    with pytest.raises(ResourceError, match=r"with 3 CPUs: the largest have 2 CPUs, .* lower --cpus-per-trial$"):
        plan([{"CPU": 2}, {"CPU": 2}], ClusterConfig(cpus_per_trial=3))


def test_memory_that_no_node_has_is_refused():
    with pytest.raises(ResourceError, match=r"1 CPU and 9 GiB: .*8 GiB; lower --cpus-per-trial or --memory-per-trial"):
        plan([{"CPU": 2, "memory": 8 * GIB}], ClusterConfig(memory_per_trial=9))


def test_twice_the_room_is_twice_the_memory_as_far_as_a_node_has_it():
    resources = plan([{"CPU": 8, "memory": 7 * GIB}], ClusterConfig(memory_per_trial=2))
    assert [resources.scaled(times).memory / GIB for times in range(3)] == [2, 4, 7]
    assert resources.scaled(1).bundle == {"CPU": 2, "memory": 4 * GIB}


@pytest.mark.parametrize(
    ("settings", "bundles"),
    [
        ({}, [{"CPU": 1}]),
        ({"max_concurrent": 3, "cpus_per_trial": 2}, [{"CPU": 2}] * 3),
        ({"gpus": 2, "gpus_per_trial": 0.5}, [{"CPU": 1, "GPU": 0.5}] * 4),
        ({"gpus": 4, "max_concurrent": 3}, [{"CPU": 1, "GPU": 1}] * 3),
        ({"gpus": 8, "gpus_per_trial": 0.25, "max_concurrent": 8}, [{"CPU": 1, "GPU": 1}] * 8),  # spread
        ({"gpus": 8, "gpus_per_trial": 0.25, "max_concurrent": 9}, [{"CPU": 1, "GPU": 0.5}] * 9),
        ({"gpus": 0, "max_concurrent": 2}, [{"CPU": 1}] * 2),
        ({"gpus_per_trial": 0.5, "max_concurrent": 2}, [{"CPU": 1, "GPU": 0.5}] * 2),
    ],
)
def test_an_autoscaler_is_asked_for_what_the_trials_need(settings, bundles):
    assert demand(ClusterConfig(wait_for_nodes=60, **settings)) == bundles


@given(
    cpus=st.integers(1, 3),
    gpus=st.one_of(st.none(), st.integers(0, 6)),
    share=st.sampled_from([None, 0.25, 0.5, 1]),
    most=st.one_of(st.none(), st.integers(1, 9)),
)
def test_nodes_that_hold_the_demand_have_room_for_what_is_expected(cpus, gpus, share, most):
    config = ClusterConfig(cpus_per_trial=cpus, gpus=gpus, gpus_per_trial=share, max_concurrent=most, wait_for_nodes=60)
    asked = demand(config)
    total = {name: sum(bundle.get(name, 0) for bundle in asked) for name in ("CPU", "GPU")}
    node = {"CPU": total["CPU"], "GPU": -(-total["GPU"] // 1)}
    result = plan([node], config)
    assert result.concurrent == result.expected == len(asked)


def test_nodes_that_are_waited_for_may_come_one_after_another():
    node = {"CPU": 8, "GPU": 2}
    config = ClusterConfig(gpus=8, gpus_per_trial=0.25, max_concurrent=8, wait_for_nodes=60)
    result = plan([node], config)
    assert (result, result.expected) == (Resources(2, 1, 1), 8)  # not eight on two of the eight GPUs
    assert [slots([node] * count, result) for count in (0, 1, 3, 5)] == [0, 2, 6, 8]
    with pytest.raises(ResourceError, match="no node has room for a trial with 1 CPU and 1 GPU: there is none"):
        plan([], config)


def test_nodes_that_join_have_room_for_more_trials_up_to_what_was_asked_for():
    node = {"CPU": 2}
    assert slots([node] * 32, plan([node], ClusterConfig(address="auto"))) == 64
    assert slots([node] * 32, plan([node], ClusterConfig(address="auto", max_concurrent=10))) == 10
    gpus = {"CPU": 8, "GPU": 4}
    assert slots([gpus] * 4, plan([gpus], ClusterConfig(gpus=4, gpus_per_trial=0.5))) == 8


@pytest.mark.parametrize(
    ("asked", "gpus", "trials", "expected"),
    [
        ("auto", 0, 1000, 1),  # a process a core is as fast
        ("auto", 1, 1000, 32),
        ("auto", 1, 100, 12),  # four trial batches for each of two workers
        ("auto", 1, 4, 1),
        (16, 0, 4, 16),
    ],
)
def test_members_leave_every_worker_batches_to_learn_from(asked, gpus, trials, expected):
    resources = Resources(concurrent=2, cpus=1, gpus=gpus)
    assert members_per_worker(ClusterConfig(members_per_trial=asked), resources, trials) == expected


def test_more_workers_train_fewer_trials_in_lock_step():
    resources = Resources(concurrent=2, cpus=1, gpus=1)
    assert [members_per_worker(ClusterConfig(), resources, 256, workers) for workers in (1, 2, 8, 64)] == [32, 32, 8, 1]


@pytest.mark.parametrize("share", [1.5, 2])
def test_more_than_one_gpu_for_a_trial_is_refused(share):
    with pytest.raises(ConfigError, match="a trial trains on one GPU"):
        parse_config(ClusterConfig, {"gpus_per_trial": share}, "test")


@given(
    nodes=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 8)), min_size=1, max_size=4),
    share=st.one_of(st.none(), st.floats(0.05, 1.0)),
    most=st.one_of(st.none(), st.integers(1, 60)),
)
def test_ray_has_room_for_what_is_promised(nodes, share, most):
    """Ray places a bundle where a node has its cores, and one of its GPUs the share."""
    cluster = [{"CPU": cpus, "GPU": gpus} for cpus, gpus in nodes]
    try:
        result = plan(cluster, ClusterConfig(gpus_per_trial=share, max_concurrent=most))
    except ResourceError:
        return
    a_gpu = int(1 / result.gpus + 1e-9) if result.gpus else 10**9
    room = sum(min(cpus, gpus * a_gpu if result.gpus else cpus) for cpus, gpus in nodes)
    assert result.concurrent <= room


@given(
    cpus=st.integers(1, 64),
    gpus=st.integers(0, 16),
    share=st.one_of(st.none(), st.floats(0.05, 1.0)),
    most=st.one_of(st.none(), st.integers(1, 40)),
)
def test_the_plan_fits_and_respects_every_limit(cpus, gpus, share, most):
    result = plan([{"CPU": cpus, "GPU": gpus}], ClusterConfig(gpus_per_trial=share, max_concurrent=most))
    assert 1 <= result.concurrent <= (most or 10**9)
    assert result.concurrent * result.cpus <= cpus
    assert result.concurrent * result.gpus <= gpus + 1e-9
    assert (result.gpus > 0) == (gpus > 0)
    if share is not None and gpus:
        assert result.gpus >= share - 1e-9
