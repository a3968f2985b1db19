"""Ray Tune's callbacks as events of the study. The only Tune callback there is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from study.cluster.ray_internals import actor_of, let_go, name_steps
from study.events import StudyEvents, TrialReport
from study.worker.actor import keep_device, numbers_of

TICK_SECONDS = 0.5
"""Between two events that say what runs. Tune ends a step many times a second, and knows every trial there ever was."""


class TuneEvents(tune.Callback):
    """Sends reports and running trials to `events`.

    `on_death` is called with the id of a Tune trial and Ray's words for the death of its process: Tune tells a searcher
    that a trial failed, but not why. `keeps_device` says of an id whether its process is to stay on its device.
    """

    def __init__(
        self,
        events: StudyEvents,
        on_death: Callable[[str, str], None],
        keeps_device: Callable[[str], bool] = lambda _: False,
    ):
        self._events = events
        self._on_death = on_death
        self._keeps_device = keeps_device
        self._ticked = 0.0
        self._ending: list[Any] = []
        """Trials of Tune's that completed, and that it may not have ended yet."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks with its own state, which nothing is resumed from here."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Name what its worker does from here on."""
        name_steps(actor_of(trial), trial.config["shown"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Send the reports of a trial batch; one without a curve says that its trial failed."""
        for report in result.get("reports", ()):
            if "curve" in report:
                row = json.loads(report["curve"])
                self._events.on_trial_report(TrialReport(report["number"], row, int(report["start"])))
        if result.get("reports") and self._keeps_device(trial.trial_id):
            keep_device(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Send which trials run, now and then, and let go of those that have ended."""
        for trial in [each for each in self._ending if each.is_finished()]:
            self._ending.remove(trial)
            let_go(trial)
        now = time.monotonic()
        if now - self._ticked > TICK_SECONDS:
            self._ticked = now
            running = [trial for trial in trials if trial.status == "RUNNING"]
            self._events.on_running([numbers_of(each) for each in running if not self._keeps_device(each.trial_id)])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Let go of it once it has ended."""
        self._ending.append(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Read what Tune has just written about the death of a process."""
        try:
            text = Path(trial.error_file).read_text(encoding="utf-8")
        except OSError:
            text = ""
        self._on_death(trial.trial_id, text)
