"""The device that a training runs on: its name and model, how its memory is shared, and that it failed."""

from __future__ import annotations

import functools
import gc
import socket
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from spinlock_dist.errors import SpinlockError

CONTEXT_BYTES = 512 * 2**20
"""What a process takes of a GPU beside what torch gives out, for its CUDA context and libraries."""


OF_CUDA = ("cuda error: out of memory", "hip error: out of memory", "_status_alloc_failed")
"""How CUDA and its libraries, not torch, say in lower case that a GPU's memory ran out."""

CPU = "CPU"
"""Name of the processor, as a device."""


@dataclass(frozen=True)
class Device:
    """A device as records and messages name it. Two nodes may have one host name; Ray's id tells them apart."""

    name: str
    """`GPU 3`, by Ray's number on its node, or `CPU`."""
    model: str = ""
    """As the driver, or the system, calls it; empty if that is unknown."""
    host: str = ""
    node_id: str = ""

    @property
    def is_gpu(self) -> bool:
        """Whether it is one of Ray's GPUs."""
        return self.name != CPU

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other."""
        return self.node_id, self.name

    def __str__(self) -> str:
        model = f" ({self.model})" if self.model else ""
        return f"{self.name}{model} of {self.host}"


class DeviceFault(SpinlockError):
    """A device failed under a training. Attributes: `device`, `reason`."""

    def __init__(self, device: Device, reason: str):
        super().__init__(device, reason)  # both arguments, so that the exception survives pickling
        self.device = device
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.device} failed: {self.reason}"


class MemoryTakenError(SpinlockError):
    """A GPU's memory ran out under a training that had not had its own part of it."""


def device_in_use(gpus: float) -> Device:
    """The device of this process, which was given so many GPUs."""
    host, node_id = socket.gethostname(), ""
    if ray.is_initialized():
        node_id = ray.get_runtime_context().get_node_id()
    if not gpus:
        return Device(CPU, _cpu_model(), host, node_id)
    given = ray.get_gpu_ids() if ray.is_initialized() else [0]
    return Device(f"GPU {given[0] if given else '?'}", _gpu_model(), host, node_id)


def _gpu_model() -> str:
    try:
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "not usable by torch"
    except (RuntimeError, torch.cuda.DeferredCudaCallError):  # the device is broken: a training will say so
        return ""


@functools.cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


# ---------------------------------------------------------------- memory


def share_memory(share: float) -> None:
    """Give back what the last training of this process left, and keep the next one to its share of a GPU."""
    if not share or not torch.cuda.is_available():
        return
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(memory_fraction(share, total))


def memory_fraction(share: float, total: int) -> float:
    """The part of a GPU's `total` bytes that a process with a `share` of it may have from torch.

    Where several share it, each has a context of its own beside.
    """
    if share >= 1:
        return 1.0
    return max(share * 0.5, share - CONTEXT_BYTES / total)


def explained(error: Exception, share: float) -> Exception:
    """A lack of GPU memory that other processes caused, as `MemoryTakenError`; any other error as it is."""
    if not _lacks_gpu_memory(error) or not torch.cuda.is_available():
        return error
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:
        return MemoryTakenError("other processes left no room for a CUDA context on its GPU")
    others = total - free - torch.cuda.memory_reserved()
    if not others_took_more(others, total, share):
        return error
    return MemoryTakenError(
        f"other processes have {others / 2**30:.1f} of the {total / 2**30:.1f} GiB of its GPU, more than their part"
    )


def _lacks_gpu_memory(error: Exception) -> bool:
    """Whether torch says so, or CUDA where torch asked it for a context or a library's workspace."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in OF_CUDA)
    )


def others_took_more(others: int, total: int, share: float) -> bool:
    """Whether `others` bytes of a GPU are more than a trial with a `share` of it leaves to all others.

    This process's own context counts among them.
    """
    return others > (1 - min(share, 1)) * total + 2 * CONTEXT_BYTES
