"""What happens in a study, for whoever wants to know: the terminal, Prometheus, trackers, the stop criteria.

A listener is a `StudyEvents` with the methods it cares about. A study sends every event to one `Broadcast`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from results.records.settings import TrialSettings
from results.records.stage import Phase
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from spinlock_dist.metrics.record import Metrics

Ending = Literal["finished", "interrupted", "failed"]
"""How a run of a study ends. What was interrupted, or failed, may be resumed."""


@dataclass(frozen=True, kw_only=True)
class PhaseWork:
    """What a phase still has to train, in epochs by the clock: those that run at a time count once."""

    phase: Phase
    epochs: float
    maybe: float = 0.0
    """Further epochs, which it takes only if what comes before does not decide."""


@dataclass(frozen=True, kw_only=True)
class PhaseStart:
    """A phase of the study that starts."""

    phase: Phase
    total: int | None = None
    """Parts that it has, those of `done` among them; None where it has none."""
    done: int = 0
    unit: str = "trainings"
    """What the parts are."""
    open_ended: bool = False
    """Whether further parts follow if these do not decide."""


@dataclass(frozen=True, kw_only=True)
class SearchStart:
    """A search that starts or is resumed."""

    study: str
    folder: StudyFolder
    """Of this search: in a tournament each has its own."""
    target: int
    """Trials asked for, those in `earlier` among them."""
    earlier: tuple[TrialRecord, ...]
    """Trials that have an outcome already, without their details."""
    epochs: int
    """Of a trial that trains to its end."""
    slots: Callable[[], int]
    """How many trial batches can run at a time, now."""
    members: int
    """Trials of a trial batch at most, at the start."""
    baseline: Metrics
    """Of the uniform baseline, on validation rows."""
    settings: TrialSettings
    """Of its trials, fixed settings included."""
    addresses: Mapping[str, str]
    """Where else to look, by what is shown there."""


@dataclass(frozen=True)
class TrialReport:
    """What a running trial reports after an evaluation."""

    number: int
    row: Mapping[str, float]
    """`epoch`, `trained`, `seconds`, `loss.<term>` and the scalar validation metrics."""
    start: int = 0
    """Epoch of the snapshot that this attempt started from; 0 for none."""

    @property
    def epoch(self) -> int:
        """The epoch that has just ended, from 1."""
        return int(self.row["epoch"])


class StudyEvents:
    """One method for each event, which does nothing: a listener overrides those it wants.

    All are called in the driver, in one thread, and block the search while they run.
    """

    def on_message(self, text: str) -> None:
        """Show a line to the user."""

    def on_study_start(self, folder: StudyFolder) -> None:
        """Handle that a study is there, or is resumed: its study.yaml is written, and the baseline is next."""

    def on_plan(self, work: Sequence[PhaseWork]) -> None:
        """Handle what the phases from the baseline on have to train."""

    def on_phase_start(self, start: PhaseStart) -> None:
        """Handle that a phase starts."""

    def on_phase_progress(self, done: int, total: int) -> None:
        """Handle how many parts of the phase are done, of how many as far as is known."""

    def on_training_end(self, record: TrialRecord) -> None:
        """Handle that a training outside of the search has ended."""

    def on_phase_end(self) -> None:
        """Handle that the phase is over: it is done, was interrupted, or failed."""

    def on_search_start(self, search: SearchStart) -> None:
        """Start following a search."""

    def on_trial_report(self, report: TrialReport) -> None:
        """Handle a report of a running trial."""

    def on_running(self, batches: Sequence[Sequence[int]]) -> None:
        """Handle which trials run now, by the worker that trains them; called about twice a second."""

    def on_trial_end(self, record: TrialRecord) -> None:
        """Handle a finished trial, whatever its outcome; of its curve and metrics the details are left out."""

    def on_batch_end(self, name: str) -> None:
        """Handle that nothing of a trial batch will be resumed."""

    def on_search_end(self) -> None:
        """Stop following the search: it is done, was interrupted, or failed."""

    def on_study_end(self, ending: Ending) -> None:
        """Handle the end of this run of the study; a finished one has its verdict, tables and report."""


class Broadcast(StudyEvents):
    """Sends every event to `parts`, in order, and then to `monitors`.

    The study depends on its parts, so their errors end it. It does not depend on its monitors: one that raises is
    reported in a line and left out from then on, because half of what it keeps may be missing.
    """

    def __init__(self, monitors: Mapping[str, StudyEvents] | None = None, parts: Iterable[StudyEvents] = ()):
        self._monitors = dict(monitors or {})
        self._parts = tuple(parts)

    def with_parts(self, *parts: StudyEvents) -> Broadcast:
        """The same monitors after further parts."""
        joined = Broadcast(parts=(*self._parts, *parts))
        joined._monitors = self._monitors  # one dict: what is left out here is left out there
        return joined

    @contextmanager
    def phase(self, start: PhaseStart) -> Iterator[None]:
        """A phase from its start to its end."""
        self.on_phase_start(start)
        try:
            yield
        finally:
            self.on_phase_end()

    def _send(self, event: str, *arguments: Any) -> None:
        for part in self._parts:
            getattr(part, event)(*arguments)
        for name, monitor in list(self._monitors.items()):
            try:
                getattr(monitor, event)(*arguments)
            except Exception as error:
                self._monitors.pop(name, None)
                self.on_message(f"monitor '{name}' failed and is left out from now on: {type(error).__name__}: {error}")

    def on_message(self, text: str) -> None:
        """Send it on."""
        self._send("on_message", text)

    def on_study_start(self, folder: StudyFolder) -> None:
        """Send it on."""
        self._send("on_study_start", folder)

    def on_plan(self, work: Sequence[PhaseWork]) -> None:
        """Send it on."""
        self._send("on_plan", work)

    def on_phase_start(self, start: PhaseStart) -> None:
        """Send it on."""
        self._send("on_phase_start", start)

    def on_phase_progress(self, done: int, total: int) -> None:
        """Send it on."""
        self._send("on_phase_progress", done, total)

    def on_training_end(self, record: TrialRecord) -> None:
        """Send it on."""
        self._send("on_training_end", record)

    def on_phase_end(self) -> None:
        """Send it on."""
        self._send("on_phase_end")

    def on_search_start(self, search: SearchStart) -> None:
        """Send it on."""
        self._send("on_search_start", search)

    def on_trial_report(self, report: TrialReport) -> None:
        """Send it on."""
        self._send("on_trial_report", report)

    def on_running(self, batches: Sequence[Sequence[int]]) -> None:
        """Send it on."""
        self._send("on_running", batches)

    def on_trial_end(self, record: TrialRecord) -> None:
        """Send it on."""
        self._send("on_trial_end", record)

    def on_batch_end(self, name: str) -> None:
        """Send it on."""
        self._send("on_batch_end", name)

    def on_search_end(self) -> None:
        """Send it on."""
        self._send("on_search_end")

    def on_study_end(self, ending: Ending) -> None:
        """Send it on."""
        self._send("on_study_end", ending)
