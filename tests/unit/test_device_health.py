"""Which device is set aside, and how a shared one's memory is divided. None of it needs a GPU."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from results.records.device_faults import read_faults
from spinlock_dist.config import TrainingConfig, TrialConfig
from spinlock_dist.out_of_fold import run_folds
from study.cluster.resources import Resources
from study.worker.device import Device, DeviceFault, device_in_use, explained, memory_fraction, others_took_more
from study.worker.device_health import DeviceHealth
from study.worker.retry_policy import failure_kind
from study.worker.trainable import Training, WorkerSetup, claim_gpu, evaluate

GIB = 2**30
ONE, TWO = Device("GPU 1", "H100", "here", "a"), Device("GPU 1", "H100", "there", "b")


@pytest.fixture
def health(tmp_path: Path) -> DeviceHealth:
    return DeviceHealth(lambda: {"a": 2, "b": 2}, tmp_path / "device_faults.json")


def test_two_faults_in_a_row_set_a_device_aside(health: DeviceHealth) -> None:
    assert [health.fault(ONE, f"trial-{number}", "x") for number in range(2)] == [False, True]
    assert list(health.set_aside) == [ONE.key]
    assert (health.left, health.reason_to_end) == (3, None)
    assert health.kept_in is not None
    kept = read_faults(health.kept_in)
    assert [(each.device, each.node, each.training, each.set_aside) for each in kept] == [
        ("GPU 1", "here", "trial-0", False),
        ("GPU 1", "here", "trial-1", True),
    ]


def test_a_training_that_it_serves_between_them_clears_a_device(health: DeviceHealth) -> None:
    for number in range(5):
        assert not health.fault(ONE, f"trial-{number}", "x")
        health.served(ONE)


def test_exceptions_of_one_device_alone_are_taken_for_its_faults(health: DeviceHealth) -> None:
    health.works(TWO)
    assert [health.suspected(ONE, f"trial-{number}") for number in range(3)] == [False, False, True]
    assert health.fault(ONE, "trial-2", "x")
    assert list(health.set_aside) == [ONE.key]


def test_exceptions_that_others_raise_too_or_that_nothing_stands_against_are_the_codes(health: DeviceHealth) -> None:
    assert not any(health.suspected(ONE, f"trial-{number}") for number in range(5))  # no other device trains
    health.works(TWO)
    assert not health.suspected(TWO, "trial-6")
    health.works(TWO)
    assert not health.suspected(ONE, "trial-7")
    health.served(ONE)
    health.served(TWO)
    assert not any(health.suspected(ONE, "batch-0000") for _ in range(5))  # halves of one


def test_devices_of_one_name_on_two_nodes_are_two(health: DeviceHealth) -> None:
    assert not health.fault(ONE, "trial-0", "x")
    assert not health.fault(TWO, "trial-1", "x")


def test_the_last_device_is_judged_by_different_trainings_and_ends_the_study() -> None:
    health = DeviceHealth(lambda: {"a": 1})
    assert not any(health.fault(ONE, "trial-0", "x") for _ in range(4))
    assert health.reason_to_end is None
    assert health.fault(ONE, "trial-1", "x")
    assert health.reason_to_end == "no device is left: GPU 1 (H100) of here failed time after time"


def test_a_node_that_has_left_takes_its_faults_along() -> None:
    there = {"a": 1, "b": 1}
    health = DeviceHealth(lambda: there)
    health.fault(ONE, "trial-0", "x")
    health.fault(ONE, "trial-1", "x")
    assert health.left == 1
    del there["a"]
    assert (health.left, health.reason_to_end) == (1, None)


def test_a_damaged_file_of_faults_is_begun_anew(health: DeviceHealth) -> None:
    assert health.kept_in is not None
    health.kept_in.write_text("[{")
    health.fault(ONE, "trial-0", "x")
    assert len(read_faults(health.kept_in)) == 1
    health.kept_in.write_text('[{"device": 1}]')
    with pytest.raises(TypeError):
        read_faults(health.kept_in)


def test_a_fault_says_where_and_survives_pickling() -> None:
    fault = pickle.loads(pickle.dumps(DeviceFault(ONE, "CUDA error")))
    assert str(fault) == "GPU 1 (H100) of here failed: CUDA error"


def test_without_a_gpu_the_processor_is_named() -> None:
    device = device_in_use(0)
    assert (device.name, bool(device.host)) == ("CPU", True)


@pytest.mark.parametrize(
    ("share", "total", "fraction"), [(1, 80 * GIB, 1), (0.25, 80 * GIB, 0.24375), (0.25, GIB, 0.125)]
)
def test_processes_that_share_a_gpu_leave_room_for_the_contexts_of_all(share, total, fraction) -> None:
    assert memory_fraction(share, total) == fraction


@pytest.mark.parametrize(
    ("others", "share", "more"),
    [(70, 1, True), (0.5, 1, False), (59, 0.25, False), (60.5, 0.25, False), (75, 0.25, True)],
)
def test_a_neighbour_that_took_too_much_is_told_from_a_trial_that_is_too_large(others, share, more) -> None:
    assert others_took_more(int(others * GIB), 80 * GIB, share) is more


@pytest.mark.parametrize(
    ("error", "free", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 1, "memory taken"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 79, "out of memory"),
        (torch.AcceleratorError("CUDA error: out of memory"), 1, "memory taken"),
        (torch.AcceleratorError("CUDA error: out of memory"), None, "memory taken"),  # not even for a context
        (torch.AcceleratorError("HIP error: out of memory"), 1, "memory taken"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 1, "memory taken"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("shapes do not match"), 1, "exception"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_lack_of_memory_that_neighbours_caused_is_told_in_whatever_words(
    error: Exception, free: float | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def memory() -> tuple[int, int]:
        if free is None:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return int(free * GIB), 80 * GIB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    assert failure_kind(explained(error, 1.0)) == kind

    def fail(*_: object) -> list:
        raise error

    monkeypatch.setattr("study.worker.trainable.device_in_use", lambda gpus: ONE)
    monkeypatch.setattr("study.worker.trainable.use_resources", lambda resources, share: None)
    monkeypatch.setattr("study.worker.trainable.in_timeline", nullcontext)  # there is no Ray here
    training = Training(phase="baseline", arm="baseline", number=0, config=TrialConfig(), data=None)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        evaluate(training, None, WorkerSetup(fail, Resources(1, 1, 1), Path(), 0))
    # An exception that nobody here knows is the GPU's, until it comes back on others.
    assert failure_kind(raised.value) == ("device fault" if kind == "exception" else kind)


@pytest.mark.parametrize(
    ("usable", "asked", "built", "fails"),
    [
        ({"a"}, "auto", True, True),  # it was there when the study began
        (set(), "auto", True, False),  # torch never could use it, as a line at the start said
        (set(), "cuda", True, True),
        (set(), "cuda", False, False),  # the setting is refused, which says more
        ({"a"}, "cpu", False, False),
    ],
)
def test_a_gpu_that_is_gone_is_a_fault_of_it_and_no_training_on_the_processor(
    usable: set[str], asked: str, built: bool, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "init", gone)
    config = TrialConfig(training=TrainingConfig(device=asked))
    setup = WorkerSetup(run_folds, Resources(1, 1, 1), Path(), 0, frozenset(usable))
    claim_gpu(Device("CPU", "", "here", "a"), [config], setup)
    if not fails:
        claim_gpu(ONE, [config], setup)
        return
    with pytest.raises(RuntimeError, match="No CUDA GPUs") as raised:
        claim_gpu(ONE, [config], setup)
    assert failure_kind(raised.value) == "device fault"
    monkeypatch.setattr("study.worker.trainable.device_in_use", lambda gpus: ONE)
    training = Training(phase="baseline", arm="baseline", number=0, config=config, data=None)
    with pytest.raises(DeviceFault, match=r"GPU 1 \(H100\) of here failed: RuntimeError: No CUDA GPUs are available$"):
        evaluate(training, None, setup)
