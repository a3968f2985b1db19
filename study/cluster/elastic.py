"""A cluster that nodes join and leave while a study runs: the room it has, and what an autoscaler is asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import ray
from ray.autoscaler.sdk import request_resources

from study.cluster.resources import Node, Resources, slots
from study.events import PhaseStart, SearchStart, StudyEvents

EVERY_SECONDS = 1.0
"""Between two looks at which nodes are there."""


def living_nodes() -> list[Node]:
    """What each node that is there has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class Slots:
    """How many trials the cluster has room for now; `say` gets a line when that changes.

    It is never less than one: a trial then waits for the next node, which an autoscaler sees.
    """

    def __init__(self, resources: Resources, say: Callable[[str], None]):
        self._resources = resources
        self._say = say
        self._count = resources.concurrent
        self._looked = time.monotonic()

    def __call__(self) -> int:
        """Look, if that was long enough ago."""
        if time.monotonic() - self._looked >= EVERY_SECONDS:
            count, before = slots(living_nodes(), self._resources), self._count
            self._looked, self._count = time.monotonic(), count
            if count != before:
                self._say(f"nodes have {'joined' if count > before else 'left'}: room for {count} trials, was {before}")
        return max(1, self._count)


class Demand(StudyEvents):
    """Asks an autoscaler for what a study still needs, from its start to its end.

    Until the search begins that is all that was asked for, so that nodes come while the baseline trains. From then on
    it is room for what is left of the phase, so that nodes which the last trials do not need may go. Ray keeps one such
    request for a cluster: the last that any driver made.
    """

    def __init__(self, bundles: list[dict[str, float]]):
        self._bundles = bundles
        self._members = 1
        self._left: int | None = None
        self._asked: int | None = None
        self._ask()

    def use(self, resources: Resources, most: int | None) -> None:
        """Ask from now on for what a plan gives to trials, for `most` at most."""
        self._bundles, self._asked = ([resources.bundle] * resources.expected)[:most], None
        self._ask()

    def withdraw(self) -> None:
        """Ask for nothing any more."""
        request_resources(bundles=[])

    def on_phase_start(self, start: PhaseStart) -> None:
        """Count what is left of the search, and of what comes after it."""
        self._members = 1
        if start.phase in ("search", "finals", "verification") and start.total is not None:
            self._count(start.total - start.done)

    def on_phase_progress(self, done: int, total: int) -> None:
        """Count what is left."""
        if self._left is not None:
            self._count(total - done)

    def on_search_start(self, search: SearchStart) -> None:
        """Leave out what an earlier run has done; a worker trains several in lock step."""
        self._members = search.members
        self._count((self._left or 0) - len(search.earlier))

    def on_training_end(self, record: object) -> None:
        """Count it."""
        if self._left is not None:
            self._count(self._left - 1)

    def on_trial_end(self, record: object) -> None:
        """Count it."""
        self._count((self._left or 0) - 1)

    def _count(self, left: int) -> None:
        self._left = max(0, left)
        self._ask()

    def _ask(self) -> None:
        needed = len(self._bundles)
        if self._left is not None:
            needed = min(needed, math.ceil(self._left / self._members))
        if needed != self._asked:
            self._asked = needed
            request_resources(bundles=self._bundles[:needed])
