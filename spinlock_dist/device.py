"""Which device a trial runs on, and how its arithmetic is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from spinlock_dist.errors import ConfigError

T = TypeVar("T")


def resolve_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is CUDA if there is one.

    Raises `ConfigError` for an unknown name or a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"training.device: '{name}' is no device; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"training.device: '{name}' is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f"training.device: '{name}' asked for, this machine has {found} CUDA devices; use cpu")
    return device


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers below 1e-38 for zero meanwhile, as GPUs may: processors are many times slower on them.

    Squares of small gradients fall there: Adam's second moments are full of them. Afterwards it is as it was before.
    """
    before = _flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes_denormals() -> bool:
    """Whether this thread does so now: torch can set it but not tell."""
    return (torch.tensor(1e-40) * torch.tensor(0.5)).item() == 0


def on_threads(work: Callable[[T], object], items: Sequence[T]) -> None:
    """Do `work` for every item, on as many threads as torch was given in this process. It has to release the GIL."""
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        for item in items:
            work(item)
        return
    # Whether denormals are flushed is a state of each thread's processor.
    flushed = _flushes_denormals()
    with ThreadPoolExecutor(threads, initializer=torch.set_flush_denormal, initargs=(flushed,)) as pool:
        for _ in pool.map(work, items):
            pass
