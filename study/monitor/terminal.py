"""What a study shows while it runs: a live view in a terminal, a line a trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

import ray
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.records.settings import TrialSettings
from results.records.stage import OUTCOMES, count_in_words
from results.records.trial_record import TrialRecord, best_record
from spinlock_dist.metrics.record import Metrics
from study.events import SearchStart, StudyEvents, TrialReport
from study.monitor.registry import MonitorSetup
from study.monitor.running_trials import RunningTrials, lines

MOST_RUNNING = 12
"""Most lines about trials that run, on a screen that has so many to spare."""
OTHER_LINES = 10
"""Lines of the view about everything else, one of which may be broken, and what stands above it."""


class TerminalView(StudyEvents):
    """Prints messages, and shows the search that runs: live in a terminal, elsewhere a line a trial."""

    def __init__(self, console: Console):
        self._console = console
        self._live: Live | None = None
        self._search: SearchStart | None = None
        self._records: list[TrialRecord] = []
        self._began = 0.0
        self._running = RunningTrials()

    def on_message(self, text: str) -> None:
        """Print it."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def on_search_start(self, search: SearchStart) -> None:
        """Start the live view."""
        self._search, self._records, self._began = search, list(search.earlier), time.monotonic()
        self._running = RunningTrials()
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def on_trial_report(self, report: TrialReport) -> None:
        """Follow a trial."""
        self._running.report(report)

    def on_running(self, batches: Sequence[Sequence[int]]) -> None:
        """Redraw the view."""
        if self._live is not None and self._search is not None:
            self._running.keep(batches)
            self._live.update(self._view(self._search), refresh=True)

    def on_trial_end(self, record: TrialRecord) -> None:
        """Count the trial; without a live view, print its line."""
        self._records.append(record)
        self._running.end(record.number)
        if self._live is None and self._search is not None:
            total = self._search.target
            self.on_message(
                f"  {len(self._records):>{len(str(total))}}/{total}  {describe(record, self._search.settings)}"
            )

    def on_search_end(self) -> None:
        """Close the view."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _view(self, search: SearchStart) -> RenderableType:
        rows = Table.grid(padding=(0, 2))
        rows.add_row("search", ProgressBar(total=search.target, completed=len(self._records), width=60))
        counts = count_in_words(record.state for record in self._records)
        rows.add_row("trials", f"{len(self._records)} of {search.target} ({counts})")
        running = self._running.trials
        most = max(1, min(MOST_RUNNING, self._console.height - OTHER_LINES))
        rows.add_row(f"{len(running)} running", Text("\n".join(lines(running, search.epochs, most)), no_wrap=True))
        rows.add_row("baseline", score(search.baseline))
        best = best_record(self._records)
        choices = search.settings.in_words(best) if best else ""
        rows.add_row("best", f"{score(best.metrics)}  trial {best.number}, {choices}" if best else "none feasible")
        rows.add_row("cluster", _utilization())
        left = self._time_left(search)
        rows.add_row("speed", f"{self._running.epochs_per_second():.1f} epochs a second; {left} left")
        for what, address in search.addresses.items():
            rows.add_row("see also", Text(f"{what}: {address}", no_wrap=True))
        return rows

    def _time_left(self, search: SearchStart) -> str:
        done = len(self._records) - len(search.earlier)
        if done == 0:
            return "unknown time"
        seconds = (time.monotonic() - self._began) / done * (search.target - len(self._records))
        return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"


def make_terminal(setup: MonitorSetup) -> TerminalView:
    """Every study has one; a quiet console prints nothing."""
    return TerminalView(setup.console)


def describe(record: TrialRecord, settings: TrialSettings) -> str:
    """A trial in a line: number, how it ended, what it scored, which guards it broke."""
    head = f"trial {record.number:<3} {'' if record.state == 'complete' else OUTCOMES[record.state]:<13}"
    if record.metrics is None or record.state not in ("complete", "pruned"):
        return f"{head} {record.reason}"
    broken = record.broken_guards
    verdict = f"breaks {broken}" if broken else "feasible"
    tail = f"epoch {record.epochs}" if record.state == "pruned" else verdict
    return f"{head} {score(record.metrics)}  {record.seconds:.1f} s  {settings.in_words(record)}  {tail}"


def score(metrics: Metrics | None) -> str:
    """What a trial scored, in a few words."""
    if metrics is None:
        return "unknown"
    errors = f"worst {metrics.in_words('fvu_worst')}  mean {metrics.in_words('fvu_mean')}"
    carried = "" if metrics.carried_share is None else f"  carried {metrics.carried_share:.0%}"
    return f"imbalance {metrics.in_words('imbalance'):>5}  {errors}  util {metrics.utilization:.0%}{carried}"


def _utilization() -> str:
    total, free = ray.cluster_resources(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if total.get(kind)]
    return ", ".join(f"{total[kind] - free.get(kind, 0):g} of {total[kind]:g} {kind}s busy" for kind in kinds)
