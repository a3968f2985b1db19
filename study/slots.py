"""The processes that trials run in, under names that say what they are.

Tune keeps a process for trial after trial (`reuse_actors`), so that actors can only be called after the study. On Ray's
pages and in `ray list actors` each would else be a `with_resources.<locals>.ResourceTrainable` that says it is `train`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray._raylet import setproctitle  # type: ignore[attr-defined]  # compiled
from ray.tune import PlacementGroupFactory, Trainable
from ray.tune.trainable.function_trainable import wrap_function


def slot(
    function: Callable[[dict[str, Any]], None], room: Callable[[dict[str, Any]], PlacementGroupFactory], study: str
) -> type[Trainable]:
    """Return `function` as a trainable whose actors bear the name of the study.

    Their processes are called after the trial that they run: `ray::operators trial-0014`. `room` tells what Tune is to
    reserve for a trial.
    """
    wrapped: Any = wrap_function(function, name=f"trials of {study}")

    class Slot(wrapped):
        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
            return room(config)

        def step(self) -> dict[str, Any]:
            setproctitle(f"ray::{study} {trial_name(self.config['number'])}")  # Ray writes its own at every call
            return super().step()

    Slot.__name__ = Slot.__qualname__ = study
    return Slot


def trial_name(number: int) -> str:
    """Return the name of a trial of the search in files, on pages and among processes."""
    return f"trial-{number:04d}"
