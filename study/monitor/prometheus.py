"""The study's own metrics for Prometheus, beside those that Ray exports.

The driver sets them; its node's agent serves them as `ray_<name>`, at the address in `ray.nodes()` under
`MetricsExportPort`. `deploy/grafana.json` shows them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

from ray.util.metrics import Gauge

from results.records.trial_record import State, TrialRecord, best_record
from study.events import SearchStart, StudyEvents, TrialReport
from study.monitor.registry import MonitorSetup
from study.monitor.running_trials import RunningTrials

STATE = "spinlock_study_trials"
METRICS = {
    STATE: "Trials by state: running, or how they ended",
    "spinlock_study_target_trials": "Trials asked for",
    "spinlock_study_best_imbalance": "Imbalance of the best feasible trial",
    "spinlock_study_best_fvu_worst": "FVU of the worst category in the best feasible trial",
    "spinlock_study_best_utilization": "Share of codes in use in the best feasible trial",
    "spinlock_study_best_carried_share": "Bits that the tokens of the best feasible trial carry / bits they cost",
    "spinlock_study_baseline_imbalance": "Imbalance of the uniform baseline",
    "spinlock_study_busy_share": "Workers that train / workers that can run at a time",
    "spinlock_study_epochs_per_second": "Epochs trained in the last minute, of all trials together, per second",
}
"""Name and description of every metric; each has the label `study`, trials `state` as well."""
REFRESH_SECONDS = 2.0
"""Between two settings of everything: Ray hands on only what was set since it last did, every few seconds."""


class PrometheusExporter(StudyEvents):
    """Sets the metrics of the search that runs."""

    def __init__(self) -> None:
        self._study = ""
        self._states: Counter[str] = Counter()
        self._best: TrialRecord | None = None
        self._slots: Callable[[], int] = lambda: 1
        self._running = RunningTrials()
        self._gauges: dict[str, Gauge] = {}
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._refreshed = 0.0

    def on_search_start(self, search: SearchStart) -> None:
        """Make the metrics and set what is known already."""
        self._study, self._slots, self._known = search.study, search.slots, {}
        self._states = Counter(record.state for record in search.earlier)
        self._best = best_record(search.earlier)
        self._gauges = {
            name: Gauge(name, description, tag_keys=("study", "state") if name == STATE else ("study",))
            for name, description in METRICS.items()
        }
        self._set("spinlock_study_target_trials", search.target)
        self._set("spinlock_study_baseline_imbalance", search.baseline.imbalance)
        self._set_ended()
        self._set_running(0)

    def on_trial_report(self, report: TrialReport) -> None:
        """Count epochs."""
        self._running.report(report)

    def on_running(self, batches: Sequence[Sequence[int]]) -> None:
        """Set what changes while trials run, and now and then all else again."""
        self._running.keep(batches)
        self._set_running(len(batches))
        if (now := time.monotonic()) - self._refreshed > REFRESH_SECONDS:
            self._refreshed = now
            for (name, tags), value in self._known.items():
                self._gauges[name].set(value, tags=dict(tags))

    def on_trial_end(self, record: TrialRecord) -> None:
        """Count the outcome, and keep the best."""
        self._states[record.state] += 1
        self._best = best_record([record] if self._best is None else [self._best, record])
        self._running.end(record.number)
        self._set_ended()

    def on_search_end(self) -> None:
        """Say that nothing runs any more."""
        self._running = RunningTrials()
        self._set_running(0)

    def _set_running(self, busy: int) -> None:
        self._set(STATE, len(self._running.trials), state="running")
        self._set("spinlock_study_busy_share", busy / self._slots())
        self._set("spinlock_study_epochs_per_second", self._running.epochs_per_second())

    def _set_ended(self) -> None:
        for state in get_args(State):
            self._set(STATE, self._states[state], state=state)
        if self._best is not None and self._best.metrics is not None:
            for figure in ("imbalance", "fvu_worst", "utilization", "carried_share"):
                if (value := getattr(self._best.metrics, figure)) is not None:
                    self._set(f"spinlock_study_best_{figure}", value)

    def _set(self, name: str, value: float, **tags: str) -> None:
        labels = {"study": self._study, **tags}
        self._known[name, tuple(labels.items())] = value
        self._gauges[name].set(value, tags=labels)


def make_prometheus(setup: MonitorSetup) -> PrometheusExporter:
    """Every study has one: Ray serves the metrics whether or not anyone reads them."""
    return PrometheusExporter()
