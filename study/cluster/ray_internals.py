"""What this project needs of Ray and Ray does not offer publicly. Checked on Ray 2.59 and 2.60.

No other file touches an underscore of Ray's or the inside of Tune's trials; tests/contracts/test_internals.py says
what is missing where another version is installed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import ray
from ray._raylet import Config, setproctitle  # type: ignore[attr-defined]  # compiled
from ray.tune.trainable.function_trainable import wrap_function


def read_environment() -> None:
    """Have Ray's compiled parts read `RAY_*` variables again: they did when Ray was imported, and only then."""
    Config.initialize("")


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


def in_timeline(name: str) -> AbstractContextManager[None]:
    """What a worker does within is a bar of that name in Ray's timeline, which calls tasks by their functions.

    `ray._private.profiling.profile` does nothing unless `RAY_PROFILING` is set for all of Ray's own calls as well.
    """
    worker: Any = ray._private.worker
    return worker.global_worker.core_worker.profile_event(b"spinlock", {"name": name})


def function_trainable(function: Callable[[dict[str, Any]], None], name: str) -> Any:
    """A class of trainables that run `function`, to be subclassed: what Tune itself makes of a function."""
    return wrap_function(function, name=name)


def name_steps(actor: Any, name: str) -> None:
    """Have the steps of an actor of Tune's, which are calls of it, named on Ray's pages and in its timeline.

    Tune calls the handle's `train`. A handle makes its methods when they are asked for, unless it has them.
    """
    actor.train = _NamedCall(actor, "train", name)


class _NamedCall:
    """A method of an actor whose calls have a name; it does not keep the actor alive."""

    def __init__(self, actor: Any, method: str, name: str):
        self._actor, self._method, self._name = weakref.ref(actor), method, name

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        actor: Any = self._actor()
        method = type(actor).__getattr__(actor, self._method)  # not what the handle has been given
        return method.options(name=self._name).remote(*args, **kwargs)


def actor_of(trial: Any) -> Any:
    """The handle of the actor that runs a trial of Tune's."""
    return trial.temporary_state.ray_actor


def let_go(trial: Any) -> None:
    """Drop what Tune keeps of a trial that has ended until the search ends: its last result, 30 kB with the extremes of
    each number in it. Tune wants them for tables and snapshots that nothing reads here."""
    kept = trial.run_metadata
    kept.last_result, kept.metric_analysis, kept.metric_n_steps = {}, {}, {}


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
