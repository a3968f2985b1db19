"""Ray's memory monitor kills a trial that takes too much: Tune ends, the study goes on with half as many at a time."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from rich.console import Console

from spinlock_dist.config import TrialConfig
from spinlock_dist.training.snapshot import Snapshots
from study import run
from study.config import ClusterConfig
from tests.faults.conftest import Ledger
from tests.toy import ONE_PARAMETER, make_toy, small_study

ALLOWED = 3 * 2**30
"""Bytes more than this machine now uses, at which the monitor begins to kill."""


@pytest.fixture
def watched() -> Iterator[None]:
    """A cluster with the monitor on, as one that others have started may have it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    if memory["MemAvailable"] < 2 * ALLOWED:
        pytest.skip("too little memory is free to take some")
    limit = (memory["MemTotal"] - memory["MemAvailable"] + ALLOWED) / memory["MemTotal"]
    settings = {"RAY_memory_monitor_refresh_ms": "100", "RAY_memory_usage_threshold": f"{limit:.3f}"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_a_kill_by_the_memory_monitor_is_survived(watched: None, dataset: Path, tmp_path: Path, ledger: Ledger) -> None:
    marker = tmp_path / "took"

    def take(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.compression.strategy == "uniform" or epoch != 4 or marker.exists():
            return
        marker.touch()
        taken = []
        for _ in range(60):
            taken.append(b"x" * (100 * 2**20))
            time.sleep(0.02)
        time.sleep(10)

    console = Console(file=io.StringIO(), width=400)
    cluster = ClusterConfig(gpus=0, snapshot_seconds=0)
    config = small_study(tmp_path, dataset, ONE_PARAMETER, trials=6, cluster=cluster)
    result = run(config, objective=make_toy(take, seconds=0.1), console=console)
    assert marker.exists()
    assert "memory monitor killed a process" in console.file.getvalue()
    assert {record.state for record in result.search} <= {"complete", "pruned"}
    killed = [record for record in result.search if record.attempts[0].kind == "out of memory"]
    assert killed
    assert all(record.attempts[1].cpus == 2 for record in killed)
    ledger.enter("killed by Ray's memory monitor", "in epoch 4", "with twice the room", result.search, 6, killed)
