"""What trials get on given nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.config import parse_config
from spinlock_dist.errors import ConfigError
from study.config import ClusterConfig
from study.resources import ResourceError, Resources, check_gpus, plan

EIGHT = [{"CPU": 64, "GPU": 8}]


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
        (EIGHT, {"gpus_per_trial": 2}, Resources(4, 1, 2)),
        ([{"CPU": 4, "GPU": 8}], {}, Resources(4, 1, 1)),
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


def test_a_trial_that_fits_on_no_node_is_refused():
    with pytest.raises(ResourceError, match="the largest has 2 CPUs"):
        plan([{"CPU": 2}, {"CPU": 2}], ClusterConfig(cpus_per_trial=3))


def test_one_and_a_half_gpus_are_refused():
    with pytest.raises(ConfigError, match="at most 1 or a whole number"):
        parse_config(ClusterConfig, {"gpus_per_trial": 1.5}, "test")


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
