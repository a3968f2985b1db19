"""A GPU that is broken: the study goes on without it and names it, whatever else becomes of its nodes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from spinlock_dist.config import TrialConfig
from spinlock_dist.training.snapshot import Snapshots
from study import StudyConfig, run
from study.config import ClusterConfig
from study.worker.retry_policy import StudyError
from tests.faults.conftest import Ledger
from tests.toy import ONE_PARAMETER, Fault, Printed, make_toy, small_study

TRIALS = 24
LONG = pytest.mark.skipif("FAULTS" not in os.environ, reason="make test-faults runs it")
SAID = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head, a node of four logical GPUs and two of two."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for gpus in (4, 2, 2):
        cluster.add_node(num_cpus=gpus, num_gpus=gpus)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def broken(folder: Path, *devices: tuple[str, int], said: str = SAID) -> Fault:
    """Return a fault of GPUs `(node id, number)`, at once or in the middle of a training; `folder` counts them."""

    def fail(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        here = (ray.get_runtime_context().get_node_id(), int(ray.get_gpu_ids()[0]))
        if here in devices and epoch >= 2:
            (folder / f"{time.time_ns()}").touch()
            raise RuntimeError(said)

    return fail


def ran(config: StudyConfig, fault: Fault, file: Printed) -> tuple[list, str, Path]:
    console = Console(file=file, width=400)
    result = run(config, objective=make_toy(fault, seconds=0.2), console=console)
    return list(result.search), file.getvalue(), result.folder.path


def test_one_of_eight_gpus_is_broken_while_a_node_joins_and_one_leaves(
    nodes: Cluster, dataset: Path, tmp_path: Path, ledger: Ledger
) -> None:
    [four] = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("GPU") == 4]
    [leaves] = [node for node in nodes.worker_nodes if node.node_id != four][:1]
    (tmp_path / "met").mkdir()
    printed = Printed(
        is_set_aside=lambda: nodes.add_node(num_cpus=2, num_gpus=2), trial_5=lambda: nodes.remove_node(leaves)
    )
    cluster = ClusterConfig(gpus=8, snapshot_seconds=0)
    config = small_study(tmp_path, dataset, ONE_PARAMETER, trials=TRIALS, cluster=cluster)
    records, said, folder = ran(config, broken(tmp_path / "met", (four, 1)), printed)

    assert {record.state for record in records} == {"complete"}
    met = read_study(StudyFolder(folder)).device_faults
    assert {each.device for each in met} == {"GPU 1"}
    # Ray may have given it to a training that waited for a device, before it was set aside.
    assert [each.set_aside for each in met][:2] == [False, True]
    assert len(met) <= 4, met
    assert "GPU 1 (not usable by torch) of" in said and "is set aside" in said
    assert "illegal memory access" in said and "asynchronously" not in said
    assert all(record.device.startswith("GPU ") and record.model for record in records)
    assert re.search(r"Set aside.*GPU 1 of .*illegal memory access", (folder / "report.html").read_text())
    repeated = [record for record in records if any(attempt.kind == "device fault" for attempt in record.attempts)]
    ledger.enter("one of eight GPUs broken", "from the start", "set aside, named", records, TRIALS, repeated)


@LONG
@pytest.mark.usefixtures("shared_ray")
def test_a_gpu_that_is_broken_in_a_way_that_nothing_here_knows(dataset: Path, tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "met").mkdir()
    here = ray.get_runtime_context().get_node_id()
    fail = broken(tmp_path / "met", (here, 0), said="libfabric: queue 7 is in an odd state")

    def fail_in_the_search(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if config.compression.strategy != "uniform":
            fail(config, epoch, snapshots)

    cluster = ClusterConfig(gpus=8, snapshot_seconds=0)
    config = small_study(tmp_path, dataset, ONE_PARAMETER, trials=TRIALS, cluster=cluster)
    records, said, _ = ran(config, fail_in_the_search, Printed())
    states = [record.state for record in records]
    assert states.count("complete") >= TRIALS - 2  # two are charged before the device is
    assert "GPU 0 (not usable by torch) of" in said and "queue 7 is in an odd state" in said and "is set aside" in said
    ledger.enter("a GPU broken in an unknown way", "in the search", "set aside, named", records, TRIALS)


@LONG
@pytest.mark.usefixtures("shared_ray")
def test_a_broken_gpu_that_trials_share(dataset: Path, tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "met").mkdir()
    here = ray.get_runtime_context().get_node_id()
    cluster = ClusterConfig(gpus=2, gpus_per_trial=0.5, snapshot_seconds=0)
    config = small_study(tmp_path, dataset, ONE_PARAMETER, trials=12, cluster=cluster)
    records, said, _ = ran(config, broken(tmp_path / "met", (here, 0)), Printed())
    assert {record.state for record in records} == {"complete"}
    assert "GPU 0 (not usable by torch) of" in said and "is set aside" in said
    assert "GPU 0" not in {record.device for record in records}
    ledger.enter("a shared GPU broken", "from the start", "set aside, named", records, 12)


@LONG
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.parametrize(
    ("phase", "line"),
    [
        ("baseline", r"baseline-baseline-0 failed \d times, at last: GPU \d .* failed: RuntimeError: CUDA error"),
        ("search", r"no device is left|trials failed, all because: RuntimeError: CUDA error"),
    ],
)
def test_a_study_on_which_every_gpu_is_broken_ends_in_a_line(
    dataset: Path, tmp_path: Path, phase: str, line: str
) -> None:
    (tmp_path / "met").mkdir()
    here = ray.get_runtime_context().get_node_id()
    fail = broken(tmp_path / "met", *((here, gpu) for gpu in range(8)))

    def fail_in_phase(config: TrialConfig, epoch: int, snapshots: Snapshots) -> None:
        if phase == "baseline" or config.compression.strategy != "uniform":
            fail(config, epoch, snapshots)

    config = small_study(tmp_path, dataset, ONE_PARAMETER, trials=12, cluster=ClusterConfig(gpus=8))
    with pytest.raises(StudyError, match=line) as ended:
        ran(config, fail_in_phase, Printed())
    assert "\n" not in str(ended.value)
