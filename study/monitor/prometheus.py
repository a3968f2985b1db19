"""What a study tells Prometheus: figures of its own beside those that Ray exports.

The driver sets them; its node's agent serves them as `ray_<name>`, at the address in `ray.nodes()` under
`MetricsExportPort`. `deploy/grafana.json` shows them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

from ray import tune
from ray.util.metrics import Gauge

from results.records.trial_record import State, TrialRecord, best_record
from spinlock_dist.metrics.record import Metrics
from study.monitor.running_trials import RunningTrials

SET_SECONDS = 2.0
STATE = "spinlock_study_trials"
METRICS = {
    STATE: "Trials by state: running, or how they ended",
    "spinlock_study_target_trials": "Trials asked for",
    "spinlock_study_best_imbalance": "Imbalance of the best feasible trial",
    "spinlock_study_best_fvu_worst": "FVU of the worst category in the best feasible trial",
    "spinlock_study_best_utilization": "Share of codes in use in the best feasible trial",
    "spinlock_study_baseline_imbalance": "Imbalance of the uniform baseline",
    "spinlock_study_busy_share": "Workers that train / workers there is room for",
    "spinlock_study_epochs_per_second": "Epochs trained in the last minute, of all trials together, per second",
}
"""Name and description of every metric; each has the label `study`, trials `state` as well."""


class PrometheusExporter(tune.Callback):
    """Sets the metrics of one search. `told` learns of trials that end; Tune tells it of those that run."""

    def __init__(self, study: str, baseline: Metrics, earlier: Sequence[TrialRecord], *, target: int, concurrent: int):
        self._study = study
        self._states: Counter[str] = Counter(record.state for record in earlier)
        self._best = best_record(earlier)
        self._concurrent = concurrent
        self._running = RunningTrials()
        self._set_at = 0.0
        self._gauges = {
            name: Gauge(name, description, tag_keys=("study", "state") if name == STATE else ("study",))
            for name, description in METRICS.items()
        }
        self._set("spinlock_study_target_trials", target)
        self._set("spinlock_study_baseline_imbalance", baseline.imbalance)
        self._set_ended()
        self._set_running(0)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks with its own state."""
        return {}

    def told(self, record: TrialRecord) -> None:
        """Take the record of a trial that has ended."""
        self._states[record.state] += 1
        self._best = best_record([record] if self._best is None else [self._best, record])
        self._running.end(record.number)
        self._set_ended()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Take reports of trials that run."""
        self._running.report(result)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Set what changes while trials run, now and then; Tune calls this many times a second."""
        now = time.monotonic()
        if now - self._set_at > SET_SECONDS:
            self._set_at = now
            self._running.keep(trials)
            self._set_running(sum(trial.status == "RUNNING" for trial in trials))

    def close(self) -> None:
        """Say that nothing runs any more."""
        self._running = RunningTrials()
        self._set_running(0)

    def _set_running(self, busy: int) -> None:
        self._set(STATE, len(self._running.trials), state="running")
        self._set("spinlock_study_busy_share", busy / self._concurrent)
        self._set("spinlock_study_epochs_per_second", self._running.epochs_per_second())

    def _set_ended(self) -> None:
        for state in get_args(State):
            self._set(STATE, self._states[state], state=state)
        if self._best is not None and self._best.metrics is not None:
            for figure in ("imbalance", "fvu_worst", "utilization"):
                self._set(f"spinlock_study_best_{figure}", getattr(self._best.metrics, figure))

    def _set(self, name: str, value: float, **tags: str) -> None:
        self._gauges[name].set(value, tags={"study": self._study, **tags})
