"""The retry rules: one for each way in which an attempt at a trial can fail. A new way is a rule and a line below."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

import torch

from results.records.trial_record import State
from spinlock_dist.errors import ConfigError, DivergedError
from spinlock_dist.registry import Registry
from study.worker.device import DeviceFault, MemoryTakenError

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENODEV, errno.ESTALE}
"""The disk is full, over quota, read-only or gone: every other trial would meet the same."""

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "_status_alloc_failed")

OF_DEVICES = (
    *("cuda error", "cuda driver error", "cuda unknown error", "cuda call failed", "cudagetdevicecount"),
    *("no cuda gpus are available", "nvidia driver", "nvml", "hip error", "no hip gpus are available", "miopen"),
    *("cublas_status_", "cusolver_status_", "cusparse_status_", "cufft_", "rocblas_status_", "hipblas_status_"),
    *("cudnn_status_", "cudnn error", "uncorrectable ecc", "unspecified launch failure"),
)
"""What CUDA, its libraries, the driver and ROCm say, in lower case, when a device fails, or is there no more."""
OF_THE_CODE = (
    *("device-side assert", "invalid argument", "invalid configuration argument", "too many resources requested"),
    *("_status_invalid_value", "_status_bad_param", "_status_not_supported"),
)
"""What they say of a call that no device would serve, an index out of bounds, say: it comes back on every one."""


@dataclass(frozen=True, kw_only=True)
class RetryRule:
    """How a failure is recognized and what follows from it.

    By default it says nothing about the trial, which is then tried again as often as it takes.
    """

    recognizes: Callable[[BaseException], bool] = lambda error: False
    """Whether an exception raised in a trial is of this kind; the first rule that says so decides."""
    dead_process: tuple[str, ...] = ()
    """Words, in lower case, that Ray uses where a process died of this."""
    reason: str = ""
    """What the record says of a process that died of this."""
    retried: bool = True
    attempts_without_progress: int | None = None
    """The trial is given up after so many attempts in a row that got no further than those before; None: it is not
    charged at all."""
    attempts: int | None = None
    """The trial is given up after so many such failures in all: it is not the device then."""
    on_devices: int | None = None
    """The same after such failures on so many devices. Both numbers are given, or none."""
    doubles_resources: bool = False
    """Each attempt after such a failure gets twice the resources; where there are no more, the trial is given up."""
    suspects_memory_after: int | None = None
    """The same for one attempt, after so many in a row without progress."""
    resumes_together: bool = False
    """The failure ends what trials in lock step share, so their batch is resumed together from its snapshot."""
    ends_search: bool = False
    """The search stops until a person has fixed something; no trial is charged."""
    state: State = "failed"
    """What a trial is that is given up for this."""


EXCEPTION = RetryRule(retried=False)
"""A bug, in code or data, comes back at every attempt."""

NON_FINITE = RetryRule(recognizes=lambda error: isinstance(error, DivergedError), retried=False, state="diverged")

REFUSED = RetryRule(recognizes=lambda error: isinstance(error, ConfigError), retried=False, state="refused")


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch on the CPU has no exception of its own
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


def _is_of_a_device(error: BaseException) -> bool:
    if isinstance(error, DeviceFault):
        return True
    said = str(error).lower()
    return (
        isinstance(error, RuntimeError | torch.cuda.DeferredCudaCallError)
        and any(words in said for words in OF_DEVICES)
        and not any(words in said for words in OF_THE_CODE)
    )


DEVICE_FAULT = RetryRule(
    recognizes=_is_of_a_device,
    attempts=5,
    on_devices=3,
    resumes_together=True,
)
"""What a broken device raises is no fault of the trial, unless it comes back on other devices."""

MEMORY_TAKEN = RetryRule(
    recognizes=lambda error: isinstance(error, MemoryTakenError),
    attempts_without_progress=5,
    suspects_memory_after=2,
)
"""Not the trial was too large: its neighbours on the GPU were."""

OUT_OF_MEMORY = RetryRule(recognizes=_lacks_memory, doubles_resources=True)

STORAGE = RetryRule(
    recognizes=lambda error: isinstance(error, OSError) and error.errno in STORAGE_ERRORS,
    resumes_together=True,
    ends_search=True,
)

NODE_LOST = RetryRule(
    dead_process=("node has died", "node was terminated", "node died", "preempt", "node is dead", "node failure"),
    reason="its node was lost",
    resumes_together=True,
)

WORKER_LOST = RetryRule(
    reason="its process died: killed, out of memory, or crashed",
    attempts_without_progress=3,
    suspects_memory_after=2,
    resumes_together=True,
)
"""It may have been preempted or have died of the trial: Ray cannot tell, and the kernel kills for want of memory
without saying why. So the trial is charged, but only where it got no further than before."""

DRIVER_LOST = RetryRule(attempts_without_progress=5, resumes_together=True)
"""Charged because a trial can take the driver with it, e.g. by filling the memory of its machine."""

INTERRUPTED = RetryRule(resumes_together=True)

RETRY_RULES: Registry[RetryRule] = Registry(
    "kind of failure",
    {
        "exception": "study.worker.retry_rules:EXCEPTION",
        "non-finite": "study.worker.retry_rules:NON_FINITE",
        "refused": "study.worker.retry_rules:REFUSED",
        "memory taken": "study.worker.retry_rules:MEMORY_TAKEN",
        "out of memory": "study.worker.retry_rules:OUT_OF_MEMORY",
        "device fault": "study.worker.retry_rules:DEVICE_FAULT",
        "storage": "study.worker.retry_rules:STORAGE",
        "node lost": "study.worker.retry_rules:NODE_LOST",
        "worker lost": "study.worker.retry_rules:WORKER_LOST",
        "driver lost": "study.worker.retry_rules:DRIVER_LOST",
        "interrupted": "study.worker.retry_rules:INTERRUPTED",
    },
)


def rule_of(kind: str) -> RetryRule:
    """The rule for a kind of failure. One that this version does not know is taken for an exception; an attempt that
    ended without a failure has the empty kind, which charges nothing."""
    if not kind:
        return RetryRule()
    return RETRY_RULES.get(kind, EXCEPTION)
