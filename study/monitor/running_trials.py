"""The trials that run, as lines of a live view: each of them while they are few, all in one when they are many."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from study.worker.actor import numbers_of

RATE_SECONDS = 60.0
"""Epochs per second are those of so long a time."""


@dataclass(frozen=True)
class Running:
    """A trial that runs: the last epoch it reported, 0 if none yet, and its worst category's FVU there."""

    number: int
    epoch: int = 0
    fvu_worst: float | None = None


class RunningTrials:
    """Follows the reports of the trials that run."""

    def __init__(self) -> None:
        self._last: dict[int, Running] = {}
        self._ended: set[int] = set()
        self._reports: deque[tuple[float, int]] = deque()

    def report(self, result: dict[str, Any], now: float | None = None) -> None:
        """Take what a trial batch reports of its trials; a report without an epoch tells that the trial failed."""
        for report in result.get("reports", ()):
            if "epoch" in report:
                number, epoch = report["number"], int(report["epoch"])
                before = max(
                    self._last.get(number, Running(number)).epoch, int(report.get("start", 0))
                )  # of a snapshot
                self._last[number] = replace(Running(number), epoch=epoch, fvu_worst=report.get("fvu_worst"))
                self._reports.append((time.monotonic() if now is None else now, max(epoch - before, 0)))

    def keep(self, trial_batches: Sequence[Any]) -> None:
        """Forget all trials but those of the trial batches that run now."""
        numbers = [
            number
            for trial_batch in trial_batches
            if trial_batch.status == "RUNNING"
            for number in numbers_of(trial_batch)
        ]
        self._last = {
            number: self._last.get(number, Running(number)) for number in numbers if number not in self._ended
        }

    def end(self, number: int) -> None:
        """Take note that a trial has ended; others of its trial batch may go on."""
        self._ended.add(number)
        self._last.pop(number, None)

    @property
    def trials(self) -> list[Running]:
        """The trials that run, by number."""
        return sorted(self._last.values(), key=lambda running: running.number)

    def epochs_per_second(self, now: float | None = None) -> float:
        """Return the epochs trained in the last minute, of all trials together, per second."""
        now = time.monotonic() if now is None else now
        while self._reports and self._reports[0][0] < now - RATE_SECONDS:
            self._reports.popleft()
        if not self._reports:
            return 0.0
        return sum(epochs for _, epochs in self._reports) / max(now - self._reports[0][0], 1.0)


def lines(trials: Sequence[Running], epochs: int, most: int) -> list[str]:
    """Return at most `most` lines (at least one) about trials of up to `epochs` epochs.

    One for each if they fit; else the furthest of those that do best so far, and the others in one line.
    """
    if len(trials) <= most:
        return [_line(trial, epochs) for trial in trials] or ["none"]
    reported = [trial for trial in trials if trial.fvu_worst is not None]
    best = sorted(reported, key=lambda trial: (trial.fvu_worst, trial.number))[: max(most - 1, 0)]
    others = [trial for trial in trials if trial not in best]
    return [*(_line(trial, epochs) for trial in best), _summary(others, epochs, "others" if best else "trials")]


def _line(trial: Running, epochs: int) -> str:
    head = f"trial {trial.number:<4} epoch {trial.epoch:>{len(str(epochs))}} of {epochs}"
    return head if trial.fvu_worst is None else f"{head}  worst {trial.fvu_worst:.3f}"


def _summary(trials: Sequence[Running], epochs: int, what: str) -> str:
    reached = sorted(trial.epoch for trial in trials)
    text = f"{len(trials)} {what}: epochs {reached[0]} to {reached[-1]} of {epochs}, median {median(reached):g}"
    worst = sorted(trial.fvu_worst for trial in trials if trial.fvu_worst is not None)
    return f"{text}; worst {worst[0]:.3f} to {worst[-1]:.3f}, median {median(worst):.3f}" if worst else text
