"""The actors that run trials, with names that say what they are.

Tune reuses an actor for one trial after another (`reuse_actors`), so it is named after the study and the place it took
there; its process, and the calls of it, are named after the trial that it is running. Otherwise Ray's pages would show
`with_resources.<locals>.ResourceTrainable`. What Tune calls a trial is a trial batch here: one trial of the study, or
several that a process trains in lock step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune import PlacementGroupFactory, Trainable

from study.cluster.ray_internals import actor_of, function_trainable, in_timeline, name_process


def trial_actor(
    function: Callable[[dict[str, Any]], None], reserved: Callable[[dict[str, Any]], PlacementGroupFactory], study: str
) -> type[Trainable]:
    """`function` as a trainable class whose actors are named after the study, and their place: `operators worker 3`.

    Their processes are named after the trial batch that they run: `ray::operators trial-0014 balanced`. `reserved` says
    what Tune is to reserve for it.
    """
    wrapped: Any = function_trainable(function, f"trials of {study}")

    class TrialActor(wrapped):  # type: ignore[misc]  # made by Ray, of no type
        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
            return reserved(config)

        def setup(self, config: dict[str, Any]) -> None:
            self._worker = f"{study} worker {config['worker']}"
            super().setup(config)

        def __repr__(self) -> str:  # Ray asks once, when the actor is there
            return self._worker

        def step(self) -> dict[str, Any]:
            name_process(f"ray::{study} {self.config['shown']}")
            with in_timeline(self.config["shown"]):
                return super().step()

        def stop_members(self, numbers: Sequence[int]) -> None:
            self.config["stopped"].extend(numbers)  # `function` sees it when its report returns

        def keep_device(self) -> None:
            self.config["held"].append(True)  # the same

    TrialActor.__name__ = TrialActor.__qualname__ = study
    return TrialActor


def trial_name(number: int) -> str:
    """Name of a trial of the search: its folders, its process, on Ray's pages."""
    return f"trial-{number:04d}"


def trial_batch_name(numbers: Sequence[int]) -> str:
    """Name of a trial batch: that of the trial if there is one, else after the first."""
    return trial_name(numbers[0]) if len(numbers) == 1 else f"batch-{numbers[0]:04d}"


def numbers_of(trial_batch: Any) -> list[int]:
    """Numbers of the trials in a trial batch, which is a trial to Tune."""
    return [member["number"] for member in trial_batch.config["members"]]


def stop_members(trial_batch: Any, numbers: Sequence[int]) -> None:
    """Tell a trial batch's actor to stop some of its trials; it does so before its next epoch."""
    actor_of(trial_batch).stop_members.remote(numbers)


def keep_device(trial_batch: Any) -> None:
    """Tell the actor of a trial batch that failed to stay, so that nothing else is given its device."""
    actor_of(trial_batch).keep_device.remote()
