"""Optuna behind Ray Tune's Searcher interface, by ask and tell.

The storage is the truth and the driver its only writer. Ray's own `OptunaSearch` stores scheduler-stopped trials as
complete, leaves diverged ones running for ever, and knows neither constraints nor user attributes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from results.front import objectives
from results.trial_record import State, TrialRecord
from search_spaces import SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.metrics.record import Metrics
from study.config import GuardsConfig
from study.distributions import suggest
from study.journal import CURVE, METRICS, NODE, REASON, SECONDS, SEED, STATE, read_search, record_of, settled
from study.objective import DIVERGED, guards

MAX_FAILURES_IN_A_ROW = 3
"""A fault in code or set-up fails every trial within seconds; the search then stops instead of using them all up."""


@dataclass
class _Running:
    trial: optuna.Trial
    curve: list[dict[str, float]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def take(self, result: dict[str, Any]) -> None:
        """Keep a report. One that Tune repeats is dropped; a restarted trial begins a new curve."""
        self.last = {**self.last, **result}
        if "curve" not in result:
            return
        report = json.loads(result["curve"])
        self.curve = [earlier for earlier in self.curve if earlier["epoch"] < report["epoch"]] + [report]
        if len(self.trial.study.directions) > 1:
            return  # Optuna keeps no intermediate values of several objectives
        if report["epoch"] not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(result["fvu_worst"], int(report["epoch"]))


class AskTellSearcher(Searcher):
    """Asks Optuna for trials until `target` have an outcome, and tells it every outcome as soon as it is known.

    `told` is called with the record of each trial that ends. `failure` holds the reason if the search was given up
    because trial after trial failed.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        base: TrialConfig,
        *,
        target: int,
        baseline: Metrics,
        guards_config: GuardsConfig,
        told: Callable[[TrialRecord], None] = lambda _: None,
    ):
        super().__init__()
        self._study = study
        self._space = space
        self._base = base
        self._target = target
        self._baseline = baseline
        self._guards = guards_config
        self._told = told
        self._running: dict[str, _Running] = {}
        self._failures_in_a_row = 0
        self.failure: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles searchers with its own state. Nothing of this one belongs there: the storage has it all."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # Tune takes FINISHED, a string
        """Return the number and config of the next trial; configs that contradict themselves are told, not run."""
        while self.failure is None and len(settled(self._study)) + len(self._running) < self._target:
            running = _Running(self._study.ask())
            values = suggest(running.trial, self._space)
            running.trial.set_user_attr(SEED, self._base.seed)
            try:
                config = self._space.to_config(self._base, values)
            except ConfigError as error:
                self._tell(running, "refused", str(error))
                continue
            self._running[trial_id] = running
            return {"number": running.trial.number, "config": config.model_dump_json()}
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep a report; the storage gets the curve's steering metric at once."""
        self._running[trial_id].take(result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended: by what it last said, or as stopped or failed if it had more to say."""
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        if result:
            running.take(result)
        if error or not running.last:
            self._tell(running, "failed", "its process died")
            return
        status = running.last["status"]
        state: State = "pruned" if status == "running" else status
        reason = f"stopped after {running.curve[-1]['epoch']:g} epochs" if state == "pruned" else running.last["reason"]
        self._tell(running, state, reason)

    def _tell(self, running: _Running, state: State, reason: str) -> None:
        trial = running.trial
        metrics = Metrics(**json.loads(running.last["metrics"])) if "metrics" in running.last else None
        attributes: dict[str, Any] = {STATE: state, REASON: reason, CURVE: running.curve}
        attributes |= {SECONDS: running.last.get("seconds", 0.0), NODE: running.last.get("hostname", "")}
        if metrics is not None:
            attributes[METRICS] = metrics.__dict__
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        # Without any constraint a trial would count as feasible; infeasible keeps the sampler away from here.
        trial.set_constraint(DIVERGED, float(state in ("diverged", "refused")))
        if metrics is not None:
            for name, value in guards(metrics, self._baseline, self._guards).items():
                trial.set_constraint(name, value)
        if state == "complete" and metrics is not None:
            told = self._study.tell(trial, objectives(metrics)[: len(self._study.directions)])
        else:
            told = self._study.tell(trial, state=TrialState.FAIL if state == "failed" else TrialState.PRUNED)
        self._count_failures(state, reason)
        self._told(record_of(told))

    def _count_failures(self, state: State, reason: str) -> None:
        self._failures_in_a_row = self._failures_in_a_row + 1 if state == "failed" else 0
        if self.failure is None and self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.failure = f"{self._failures_in_a_row} trials failed one after the other, the last because: {reason}"

    def records(self) -> list[TrialRecord]:
        """Return the records of all trials with an outcome, by number."""
        return read_search(self._study)
