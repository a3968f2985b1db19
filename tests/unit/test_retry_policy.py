"""Kinds of faults, what is tried again, when a study is hopeless, and how a broken disk is told."""

from __future__ import annotations

import errno
import shutil

import pytest
import ray
import torch

from results.records.trial_record import Attempt
from spinlock_dist.errors import ConfigError, DivergedError
from study.worker.device import Device, DeviceFault, MemoryTakenError
from study.worker.retry_policy import (
    StudyError,
    attempts_without_progress,
    collapsed,
    failure_kind,
    failure_kind_of_death,
    killed_by_memory_monitor,
    reason_to_give_up,
    resource_doublings,
    should_retry,
    storage_errors_explained,
)


def cpu_out_of_memory() -> Exception:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    return raised.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ZeroDivisionError("x"), "exception"),
        (RuntimeError("shapes do not match"), "exception"),
        (DivergedError(3, "commitment"), "non-finite"),
        (ConfigError("x"), "refused"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory"),
        (cpu_out_of_memory(), "out of memory"),
        (RuntimeError("CUDA error: out of memory"), "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "device fault"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "device fault"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device fault"),
        (RuntimeError("CUDA error: the launch timed out and was terminated"), "device fault"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "device fault"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle)`"),
            "device fault",
        ),
        (
            RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate`"),
            "device fault",
        ),
        (RuntimeError("cuFFT error: CUFFT_EXEC_FAILED"), "device fault"),
        (RuntimeError("CUDA driver error: unknown error"), "device fault"),
        (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"), "device fault"),
        (RuntimeError("No CUDA GPUs are available"), "device fault"),
        (RuntimeError("Found no NVIDIA driver on your system."), "device fault"),
        (
            RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
            "device fault",
        ),
        (RuntimeError("NVML_SUCCESS == DriverAPI::get()->nvmlInit_v2_() INTERNAL ASSERT FAILED"), "device fault"),
        (torch.cuda.DeferredCudaCallError("CUDA call failed lazily at initialization with error: x"), "device fault"),
        (RuntimeError("HIP error: an illegal memory access was encountered"), "device fault"),
        (RuntimeError("No HIP GPUs are available"), "device fault"),
        (
            RuntimeError("CUDA error: HIPBLAS_STATUS_INTERNAL_ERROR when calling `hipblasCreate(handle)`"),
            "device fault",
        ),
        (RuntimeError("miopenStatusUnknownError"), "device fault"),
        (torch.AcceleratorError("HIP error: out of memory"), "out of memory"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), "out of memory"),
        (RuntimeError("CUDA error: device-side assert triggered"), "exception"),
        (torch.AcceleratorError("HIP error: device-side assert triggered"), "exception"),
        (torch.AcceleratorError("CUDA error: invalid argument"), "exception"),
        (torch.AcceleratorError("CUDA error: invalid configuration argument"), "exception"),
        (torch.AcceleratorError("CUDA error: too many resources requested for launch"), "exception"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm( handle)`"), "exception"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if"), "exception"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"), "exception"),
        (ValueError("CUDA error"), "exception"),
        (DeviceFault(Device("GPU 1"), "CUDA error"), "device fault"),
        (MemoryTakenError("other processes have 70 of the 80 GiB"), "memory taken"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "exception"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_error_has_its_kind(error, kind):
    assert failure_kind(error) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [  # what ray 2.60 writes; tests/faults holds that it still does
        ("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR", "worker lost"),
        ("The actor died because its node has died. Node Id: 1f", "node lost"),
        ("The actor's node was terminated expectedly: preempted by the cloud", "node lost"),
        ("", "worker lost"),
    ],
)
def test_each_death_has_its_kind(text, kind):
    assert failure_kind_of_death(text) == kind


def attempts(*ended: tuple[str, int]) -> list[Attempt]:
    return [Attempt(began="2026-01-01", ended=True, kind=kind, epochs=epochs) for kind, epochs in ended]


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([("worker lost", 0)], 1),
        ([("worker lost", 5)], 0),
        ([("worker lost", 5), ("worker lost", 5)], 1),
        ([("worker lost", 5), ("worker lost", 3), ("worker lost", 4)], 2),
        ([("worker lost", 5), ("worker lost", 3), ("worker lost", 6)], 0),
        ([("worker lost", 0), ("node lost", 0), ("interrupted", 0), ("worker lost", 0)], 2),
        ([("driver lost", 0), ("worker lost", 0)], 2),
    ],
)
def test_only_what_got_no_further_counts(story, expected):
    assert attempts_without_progress(attempts(*story)) == expected


def test_what_is_tried_again():
    again = {
        kind: should_retry(attempts((kind, 5)), scaled=False)
        for kind in ("exception", "non-finite", "refused", "out of memory", "worker lost", "node lost", "interrupted")
    }
    assert [kind for kind, yes in again.items() if yes] == ["worker lost", "node lost", "interrupted"]
    assert should_retry(attempts(("out of memory", 5)), scaled=True)
    assert not should_retry(attempts(*[("worker lost", 0)] * 3), scaled=True)
    assert should_retry(attempts(*[("node lost", 0)] * 50), scaled=False)


def test_room_is_doubled_for_want_of_memory():
    assert resource_doublings([]) == 0
    assert resource_doublings(attempts(("node lost", 0), ("out of memory", 0), ("out of memory", 3))) == 2
    assert resource_doublings(attempts(("worker lost", 0), ("worker lost", 0))) == 1


def test_what_counts_as_collapsed(make_metrics):
    assert not collapsed(make_metrics(0.5, 0.1))
    assert collapsed(make_metrics(0.99, 0.1))
    assert collapsed(make_metrics(0.5, 0.1, utilization=0.3))
    assert collapsed(make_metrics(0.5, 0.1, perplexity_ratio=0.1))


def test_a_study_is_hopeless_when_most_of_its_last_trials_failed(make_record):
    good = [make_record(number, 0.5, 0.1) for number in range(20)]
    bad = [make_record(number, state="failed", reason=f"KeyError: trial {number}") for number in range(20)]
    assert reason_to_give_up(bad[:2]) is None
    assert reason_to_give_up(bad[:3]) == "3 of the last 3 trials failed, all because: KeyError: trial 0"
    assert reason_to_give_up([*good, *bad[:5]]) is None
    assert reason_to_give_up([*good, *bad[:6]]) == "6 of the last 10 trials failed, all because: KeyError: trial 0"
    assert (
        reason_to_give_up([make_record(number, state="diverged") for number in range(10)]) is None
    )  # the sampler learns


# ---------------------------------------------------------------- the disk


def test_a_full_disk_is_told_whatever_it_led_to(tmp_path):
    def lead_to_another() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise EOFError("Ran out of input") from error

    with (
        pytest.raises(StudyError, match=r"cannot be written: .*No space left on device; .*--resume"),
        storage_errors_explained(tmp_path),
    ):
        lead_to_another()


def test_a_folder_that_is_gone_is_told(tmp_path):
    def pull_the_plug() -> None:
        shutil.rmtree(tmp_path)
        raise EOFError("Ran out of input")

    with pytest.raises(StudyError, match="cannot be written"), storage_errors_explained(tmp_path / "s"):
        pull_the_plug()


def test_other_errors_pass(tmp_path):
    with pytest.raises(ZeroDivisionError), storage_errors_explained(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(ConfigError, match="as it is"), storage_errors_explained(tmp_path / "missing"):
        raise ConfigError("as it is")
    assert not list(tmp_path.iterdir())


def test_a_kill_by_the_memory_monitor_is_known_through_what_tune_makes_of_it():
    error = RuntimeError("Caught unexpected exception")
    error.__cause__ = ray.exceptions.OutOfMemoryError("2 worker(s) were killed due to the node running low on memory")
    assert killed_by_memory_monitor(error)
    assert not killed_by_memory_monitor(RuntimeError("x"))
