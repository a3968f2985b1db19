"""What a study shows while it runs: a live view in a terminal, a line a trial elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import ray
from ray import tune
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.records.settings import settings
from results.records.trial_record import TrialRecord, best_record
from spinlock_dist.metrics.record import Metrics
from study.monitor.running_trials import RunningTrials, lines

REFRESH_SECONDS = 0.5
MOST_RUNNING = 12
"""Most lines about trials that run, on a screen that has so many to spare."""
OTHER_LINES = 10
"""Lines of the view about everything else, one of which may be broken, and what stands above it."""
MARKS = {"complete": "", "pruned": "stopped", "diverged": "diverged", "refused": "refused", "failed": "failed"}


class Progress(tune.Callback):
    """Follows the search. `told` learns of trials that end; as a Tune callback it learns of those that run."""

    def __init__(self, console: Console):
        self._console = console
        self._live: Live | None = None
        self._records: list[TrialRecord] = []
        self._baseline: Metrics | None = None
        self._total = 0
        self._epochs = 0
        self._resumed = 0
        self._began = 0.0
        self._drawn = 0.0
        self._running = RunningTrials()
        self._addresses: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks with its own state; a terminal has no place there."""
        return {}

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(
        self, total: int, earlier: list[TrialRecord], baseline: Metrics, *, epochs: int, addresses: dict[str, str]
    ) -> None:
        """Start the view of a search of `total` trials of up to `epochs` epochs, of which `earlier` are there already.

        `addresses`: where else to look, by what is shown there.
        """
        self._total, self._records, self._baseline = total, list(earlier), baseline
        self._epochs, self._addresses = epochs, addresses
        self._resumed, self._began = len(earlier), time.monotonic()
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def end(self) -> None:
        """Close the view."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def told(self, record: TrialRecord) -> None:
        """Take the record of a trial that has ended."""
        self._records.append(record)
        self._running.end(record.number)
        if self._live is None:
            self.say(f"  {len(self._records):>{len(str(self._total))}}/{self._total}  {describe(record)}")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Redraw now and then; Tune calls this many times a second."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn > REFRESH_SECONDS:
            self._drawn = now
            self._running.keep(trials)
            self._live.update(self._view(), refresh=True)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Take reports of trials that run."""
        self._running.report(result)

    def _view(self) -> RenderableType:
        rows = Table.grid(padding=(0, 2))
        rows.add_row("search", ProgressBar(total=self._total, completed=len(self._records), width=60))
        states = Counter(record.state for record in self._records)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        rows.add_row("trials", f"{len(self._records)} of {self._total} ({counts or 'none yet'})")
        running = self._running.trials
        most = max(1, min(MOST_RUNNING, self._console.height - OTHER_LINES))
        rows.add_row(f"{len(running)} running", Text("\n".join(lines(running, self._epochs, most)), no_wrap=True))
        rows.add_row("baseline", score(self._baseline))
        best = best_record(self._records)
        rows.add_row(
            "best", f"{score(best.metrics)}  trial {best.number}, {settings(best)}" if best else "none feasible"
        )
        rows.add_row("cluster", _utilization())
        rows.add_row("speed", f"{self._running.epochs_per_second():.1f} epochs a second; {self._time_left()} left")
        for what, address in self._addresses.items():
            rows.add_row("see also", Text(f"{what}: {address}", no_wrap=True))
        return rows

    def _time_left(self) -> str:
        done = len(self._records) - self._resumed
        if done == 0:
            return "unknown time"
        seconds = (time.monotonic() - self._began) / done * (self._total - len(self._records))
        return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"


def describe(record: TrialRecord) -> str:
    """Return a trial in a line: number, how it ended, what it scored, which guards it broke."""
    head = f"trial {record.number:<3} {MARKS[record.state]:<8}"
    if record.metrics is None or record.state not in ("complete", "pruned"):
        return f"{head} {record.reason}"
    broken = record.broken_guards
    verdict = f"breaks {broken}" if broken else "feasible"
    tail = f"epoch {record.epochs}" if record.state == "pruned" else verdict
    return f"{head} {score(record.metrics)}  {record.seconds:.1f} s  {settings(record)}  {tail}"


def score(metrics: Metrics | None) -> str:
    """Return what a trial scored in a few words."""
    if metrics is None:
        return "unknown"
    errors = f"worst {metrics.fvu_worst:.3f}  mean {metrics.fvu_mean:.3f}"
    return f"imbalance {metrics.imbalance:5.2f}x  {errors}  util {metrics.utilization:.0%}"


def _utilization() -> str:
    total, free = ray.cluster_resources(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if total.get(kind)]
    return ", ".join(f"{total[kind] - free.get(kind, 0):g} of {total[kind]:g} {kind}s busy" for kind in kinds)
