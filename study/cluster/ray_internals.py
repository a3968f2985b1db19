"""What this project needs of Ray and Ray does not offer publicly. Checked on Ray 2.59 and 2.60.

No other file touches an underscore of Ray's or the inside of Tune's trials; tests/contracts/test_internals.py says
what is missing where another version is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._raylet import setproctitle  # type: ignore[attr-defined]  # compiled
from ray.tune.trainable.function_trainable import wrap_function


@contextmanager
def worker_logs_silenced() -> Iterator[None]:
    """Keep Ray from printing what its workers log and how they die."""
    worker: Any = ray._private.worker
    before, worker._worker_logs_enabled = worker._worker_logs_enabled, False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


def name_process(title: str) -> None:
    """Name this worker process as `ps` and Ray's pages show it. Ray writes its own name at every call of an actor."""
    setproctitle(title)


def function_trainable(function: Callable[[dict[str, Any]], None], name: str) -> Any:
    """A class of trainables that run `function`, to be subclassed: what Tune itself makes of a function."""
    return wrap_function(function, name=name)


def actor_of(trial: Any) -> Any:
    """The handle of the actor that runs a trial of Tune's."""
    return trial.temporary_state.ray_actor


@contextmanager
def without_cutoffs(scheduler: Any) -> Iterator[None]:
    """Let ASHA take reports without working out for each whether it stops, which takes longer the more it has."""
    brackets = getattr(scheduler, "_brackets", [])
    for bracket in brackets:
        bracket.cutoff = lambda recorded: None
    try:
        yield
    finally:
        for bracket in brackets:
            del bracket.cutoff
