"""The trials that run, as lines of a live view: each of them while they are few, all in one when they are many."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from study.events import TrialReport

RATE_SECONDS = 60.0
"""Epochs per second are averaged over this long."""


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

    def report(self, report: TrialReport, now: float | None = None) -> None:
        """Handle a report. The first after a restart counts the epochs since the snapshot, which others trained."""
        before = self._last.get(report.number, Running(report.number)).epoch
        trained = max(report.epoch - max(before, report.start), 0)
        self._last[report.number] = Running(report.number, report.epoch, report.row.get("fvu_worst"))
        self._reports.append((time.monotonic() if now is None else now, trained))

    def keep(self, batches: Sequence[Sequence[int]]) -> None:
        """Forget all trials but those of the trial batches that run now."""
        numbers = [number for batch in batches for number in batch if number not in self._ended]
        self._last = {number: self._last.get(number, Running(number)) for number in numbers}

    def end(self, number: int) -> None:
        """Forget a trial that has ended; others of its trial batch may go on."""
        self._ended.add(number)
        self._last.pop(number, None)

    @property
    def trials(self) -> list[Running]:
        """Those that run, by number."""
        return sorted(self._last.values(), key=lambda running: running.number)

    def epochs_per_second(self, now: float | None = None) -> float:
        """Epochs per second of the last minute, of all trials together."""
        now = time.monotonic() if now is None else now
        while self._reports and self._reports[0][0] < now - RATE_SECONDS:
            self._reports.popleft()
        if not self._reports:
            return 0.0
        return sum(epochs for _, epochs in self._reports) / max(now - self._reports[0][0], 1.0)


def lines(trials: Sequence[Running], epochs: int, most: int) -> list[str]:
    """At most `most` lines (at least one) about trials of up to `epochs` epochs.

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
