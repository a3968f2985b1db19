"""How long a study still takes: what each phase has to train, times how fast the trainings so far were."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from results.records.trial_record import TrialRecord
from study.events import PhaseStart, PhaseWork

RECENT = 20
"""Trainings whose speed counts, the latest ones."""
UNITS = ((3600, "h"), (60, "min"), (1, "s"))


class TimeLeft:
    """Follows the phases; `now` of its methods is the time in seconds."""

    def __init__(self) -> None:
        self._ahead: tuple[PhaseWork, ...] = ()
        self._speeds: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._epoch: float | None = None
        """Seconds an epoch takes."""
        self._began = 0.0
        self._before = self._done = 0
        self._total: int | None = None
        self._open_ended = False
        self._now: PhaseWork | None = None

    def plan(self, work: Sequence[PhaseWork]) -> None:
        """Take what is to be trained."""
        self._ahead = tuple(work)

    def start(self, phase: PhaseStart, now: float | None = None) -> None:
        """Follow a phase. Those before it are over."""
        phases = [work.phase for work in self._ahead]
        place = phases.index(phase.phase) if phase.phase in phases else -1
        self._now = self._ahead[place] if place >= 0 else None
        self._ahead = self._ahead[place:] if place > 0 else self._ahead
        self._began = time.monotonic() if now is None else now
        self._before = self._done = phase.done
        self._total, self._open_ended = phase.total, phase.open_ended

    def earlier(self, count: int) -> None:
        """Take parts for done that another run of the study has done."""
        self._before += count
        self._done += count

    def progress(self, done: int, total: int | None = None) -> None:
        """Take it that so many parts of the phase are done, of so many."""
        self._done = done
        if total is not None and total != self._total:  # what was open is decided
            self._total, self._open_ended = total, False

    def trained(self, record: TrialRecord) -> None:
        """Learn from a training that has ended how long an epoch takes."""
        if record.epochs and record.seconds:
            self._speeds.append((record.seconds, record.epochs))
            self._epoch = sum(seconds for seconds, _ in self._speeds) / sum(epochs for _, epochs in self._speeds)

    @property
    def done(self) -> int:
        """Parts of the phase that are done."""
        return self._done

    @property
    def total(self) -> int | None:
        """Parts of the phase; None if it has none."""
        return self._total

    def elapsed(self, now: float | None = None) -> float:
        """Seconds since the phase started."""
        return (time.monotonic() if now is None else now) - self._began

    def of_phase(self, now: float | None = None) -> float | None:
        """Seconds that the phase still takes, by its own pace or, before it has one, by what it has to train.

        None where neither is known, or the time that it should take is over.
        """
        elapsed, ended = self.elapsed(now), self._done - self._before
        if self._total is not None and ended > 0:
            return elapsed / ended * max(0, self._total - self._done)
        if self._now is not None and self._epoch is not None:
            share = 1 - self._before / self._total if self._total else 1.0
            left = self._now.epochs * share * self._epoch - elapsed
            return left if left > 0 else None
        return None

    def of_study(self, now: float | None = None) -> tuple[float, float] | None:
        """Seconds that the study still takes, at least and at most; None before a training has ended."""
        if self._epoch is None or self._now is None or (left := self.of_phase(now)) is None:
            return None
        after = self._ahead[self._ahead.index(self._now) + 1 :]
        shortest = left + self._epoch * sum(work.epochs for work in after)
        undecided = sum(work.maybe for work in after)
        if self._open_ended:
            undecided += self._now.maybe
        return shortest, shortest + self._epoch * undecided


def in_words(left: tuple[float, float] | None) -> str:
    """A time as people say it: `about 40 s`, `about 3 min`, `3 to 5 min`; `not known yet` of None."""
    if left is None:
        return "not known yet"
    size, unit = next((size, unit) for size, unit in UNITS if left[1] >= 1.5 * size or size == 1)
    low, high = (max(1, round(seconds / size)) for seconds in left)
    return f"{low} to {high} {unit}" if low < high else f"about {high} {unit}"
