"""What a study shows while it runs: a line a trial, and in a terminal a live view below."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import ray
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from results.records.settings import TrialSettings
from results.records.stage import OUTCOMES, count_in_words, outcome_in_words
from results.records.trial_record import State, TrialRecord, best_record
from spinlock_dist.metrics.record import Metrics
from study.events import PhaseStart, PhaseWork, SearchStart, StudyEvents, TrialReport
from study.monitor.registry import MonitorSetup
from study.monitor.running_trials import RunningTrials, lines
from study.monitor.time_left import TimeLeft, in_words

MOST_RUNNING = 12
"""Most lines about trials that run, on a screen that has so many to spare."""
OTHER_LINES = 10
"""Lines of the view about everything else, one of which may be broken, and what stands above it."""
HEADINGS = 12
"""Columns of the view's headings, with the gap after them."""
REFRESH = 2
"""Times a second that the view is drawn anew."""


class TerminalView(StudyEvents):
    """Prints messages and a line for each trial that ends; in a terminal there is a live view of the phase below."""

    def __init__(self, console: Console):
        self._console = console
        self._live: Live | None = None
        self._phase: PhaseStart | None = None
        self._left = TimeLeft()
        self._tenth: int | None = None
        """Of the parts of a phase, the last that was printed."""
        self._search: SearchStart | None = None
        self._states: Counter[State] = Counter()
        self._best: TrialRecord | None = None
        self._running = RunningTrials()
        self._shown: RenderableType = ""
        """The view of the search as it was last drawn."""

    # ------------------------------------------------------------ phases

    def on_message(self, text: str) -> None:
        """Print it. Only what may have to be copied, with a path in it, runs on beyond the width of a terminal."""
        whole = "/" in text or not self._console.is_terminal
        self._console.print(text, highlight=False, markup=False, soft_wrap=whole)

    def on_plan(self, work: Sequence[PhaseWork]) -> None:
        """Take what the time left is told from."""
        self._left.plan(work)

    def on_phase_start(self, start: PhaseStart) -> None:
        """Start the live view of a phase; elsewhere say how long the study will take from here, once that is known."""
        self._phase, self._tenth = start, None
        self._left.start(start)
        if self._console.is_terminal:
            self._live = Live(_Drawn(self), console=self._console, refresh_per_second=REFRESH, transient=True)
            self._live.start()
        elif (left := self._left.of_study()) is not None:
            self.on_message(f"  {in_words(left)} left")

    def on_phase_progress(self, done: int, total: int) -> None:
        """Count; without a live view print a line at every tenth of what takes longer than a moment."""
        self._left.progress(done, total)
        if self._live is not None or self._phase is None or self._phase.unit == "trainings":
            return
        tenth, before = 10 * done // max(1, total), self._tenth
        self._tenth = tenth
        if before is not None and tenth > before:
            self.on_message(f"  {done} of {total} {self._phase.unit}")

    def on_training_end(self, record: TrialRecord) -> None:
        """Learn how fast trainings are, and count; of the baseline, print what each scored."""
        self._left.trained(record)
        if self._phase is None or self._phase.phase == "finals":  # these count for themselves
            return
        self._left.progress(self._left.done + 1)
        if self._phase.phase == "baseline" and record.metrics is not None:
            self._line([(0, f"  seed {record.seed}:"), *score_parts(record.metrics)])

    def on_phase_end(self) -> None:
        """Close the view."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._phase = None

    def draw(self) -> RenderableType:
        """The view as it is now. It is called from the thread of the live view: it reads what is set whole."""
        phase = self._phase
        return self._shown if self._search is not None else self._phase_view(phase) if phase is not None else ""

    def _phase_view(self, phase: PhaseStart) -> RenderableType:
        rows = _rows()
        done, total = self._left.done, self._left.total
        if total is None:
            rows.add_row(phase.phase, f"for {in_words((self._left.elapsed(),) * 2).removeprefix('about ')}")
        else:
            rows.add_row(phase.phase, self._bar(min(done, total), total))
            rows.add_row("", f"{min(done, total)} of {total} {phase.unit}")
        if (left := self._left.of_study()) is not None or (left := self._simulation_left()) is not None:
            rows.add_row("time left", in_words(left))
        return rows

    def _simulation_left(self) -> tuple[float, float] | None:
        """The time left of a phase that trains nothing, so that nothing is known of those after it."""
        left = self._left.of_phase()
        return None if left is None else (left, left)

    def _bar(self, done: int, total: int) -> ProgressBar:
        return ProgressBar(total=total, completed=done, width=max(10, min(60, self._console.width - HEADINGS)))

    # ------------------------------------------------------------ the search

    def on_search_start(self, search: SearchStart) -> None:
        """Start the view of a search."""
        self._search = search
        self._states, self._best = Counter(each.state for each in search.earlier), best_record(search.earlier)
        self._running, self._shown = RunningTrials(), ""
        self._left.earlier(len(search.earlier))

    def on_trial_report(self, report: TrialReport) -> None:
        """Follow a trial."""
        self._running.report(report)

    def on_running(self, batches: Sequence[Sequence[int]]) -> None:
        """Redraw the view."""
        if self._live is not None and self._search is not None:
            self._running.keep(batches)
            self._shown = self._view(self._search)
            self._live.refresh()

    def on_trial_end(self, record: TrialRecord) -> None:
        """Count the trial and print its line, which stays above the live view."""
        self._states[record.state] += 1
        self._best = best_record([record] if self._best is None else [self._best, record])
        self._running.end(record.number)
        self._left.trained(record)
        self._left.progress(self._left.done + 1)
        if self._search is not None:
            total = self._search.target
            head = f"{self._states.total():>{len(str(total))}}/{total}"
            self.on_message(trial_line(head, record, self._search.settings, self._width))

    @property
    def _width(self) -> int | None:
        """Of a terminal; elsewhere lines may be of any length."""
        return self._console.width if self._console.is_terminal else None

    def _line(self, parts: Sequence[tuple[int, str]]) -> None:
        self.on_message(fitted(parts, self._width)[0])

    def on_search_end(self) -> None:
        """Close the view of the search."""
        self._search = None

    def _view(self, search: SearchStart) -> RenderableType:
        running = self._running.trials
        heading = f"{len(running)} running"
        rows, room = _rows(), self._console.width - max(HEADINGS, len(heading) + 2)
        rows.add_row("search", self._bar(self._states.total(), search.target))
        counts = count_in_words(self._states.elements())
        rows.add_row("trials", whole(f"{self._states.total()} of {search.target} ({counts})", room))
        most = max(1, min(MOST_RUNNING, self._console.height - OTHER_LINES))
        rows.add_row(heading, whole("\n".join(lines(running, search.epochs, most)), room))
        rows.add_row("baseline", fitted(score_parts(search.baseline), room)[0])
        best = self._best
        parts = [(0, "none feasible")]
        if best is not None and best.metrics is not None:
            parts = [*score_parts(best.metrics), (3, f"trial {best.number}, {search.settings.in_words(best)}")]
        rows.add_row("best", fitted(parts, room)[0])
        rows.add_row("cluster", whole(_utilization(), room))
        rows.add_row("speed", f"{self._running.epochs_per_second():.1f} epochs a second")
        of_search = self._left.of_phase()
        search_left = f" (search {in_words((of_search, of_search))})" if of_search is not None else ""
        rows.add_row("time left", whole(f"{in_words(self._left.of_study())}{search_left}", room))
        for what, address in search.addresses.items():
            if len(text := f"{what}: {address}") <= room:
                rows.add_row("see also", text)
        return rows


class _Drawn:
    """What a live view draws anew at every refresh."""

    def __init__(self, view: TerminalView):
        self._view = view

    def __rich__(self) -> RenderableType:
        return self._view.draw()


def _rows() -> Table:
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(ratio=1)
    return rows


def whole(text: str, width: int) -> str:
    """The lines of `text`, each without the parts at its end for which there is no room; no figure is cut."""
    return "\n".join(_begin(line, width) for line in text.split("\n"))


def _begin(line: str, width: int) -> str:
    ends = [found.start() for found in re.finditer("  |; |, | \\(|: ", line) if found.start() <= width]
    return line if len(line) <= width or not ends else line[: ends[-1]].rstrip()


def make_terminal(setup: MonitorSetup) -> TerminalView:
    """Every study has one; a quiet console prints nothing."""
    return TerminalView(setup.console)


def trial_line(head: str, record: TrialRecord, settings: TrialSettings, width: int | None = None) -> str:
    """A trial that ended: how, what it scored, how long it took, what it had set.

    At most `width` characters: in as many figures as that takes, and without intervals before without settings. What
    went wrong with a trial is told whole.
    """
    completed = record.state == "complete"
    name = f"  {head}  trial {record.number:<3}"
    state = f"{'' if completed else OUTCOMES[record.state]:<13}"
    if record.metrics is None or record.state not in ("complete", "pruned"):
        return f"{name}  {state}  {record.reason}".rstrip()
    last = f"epoch {record.epochs}" if record.state == "pruned" else outcome_in_words(record)
    for intervals in (True, False):
        told = score_parts(record.metrics, intervals)
        parts = [(0, name), (9 if completed else 2, state), *told[:2], (3, settings.in_words(record)), (2, last)]
        parts[4:4] = [*told[2:], (5, f"{record.seconds:.1f} s")]
        line, place = fitted(parts, width)
        if place >= 3:
            break
    return line


def score_parts(metrics: Metrics, intervals: bool = True) -> list[tuple[int, str]]:
    """What a trial scored, by importance: imbalance, worst category, mean, utilization, bits carried."""
    names = {"imbalance": (1, "imbalance"), "worst": (2, "fvu_worst"), "mean": (4, "fvu_mean")}
    figures = {word: (place, metrics.in_words(name)) for word, (place, name) in names.items()}
    carried = "" if metrics.carried_share is None else f"carried {metrics.carried_share:.0%}"
    return [
        *((place, f"{word} {text if intervals else text.split()[0]}") for word, (place, text) in figures.items()),
        (6, f"util {metrics.utilization:.0%}"),
        (7, carried),
    ]


def fitted(parts: Sequence[tuple[int, str]], width: int | None) -> tuple[str, int]:
    """Texts beside each other, those with the lowest numbers first taken in until one has no room.

    Returns the line, and the number of the last that was taken in.
    """
    taken: list[int] = []
    for place in sorted(range(len(parts)), key=lambda place: parts[place][0]):
        if not parts[place][1]:
            continue
        length = sum(len(parts[each][1]) + 2 for each in [*taken, place]) - 2
        if taken and width is not None and length > width:
            break
        taken.append(place)
    return "  ".join(parts[place][1] for place in sorted(taken)).rstrip(), parts[taken[-1]][0]


def _utilization() -> str:
    total, free = ray.cluster_resources(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if total.get(kind)]
    return ", ".join(f"{total[kind] - free.get(kind, 0):g} of {total[kind]:g} {kind}s busy" for kind in kinds)
