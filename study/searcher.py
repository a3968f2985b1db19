"""Optuna behind Ray Tune's Searcher interface, by ask and tell.

The storage is the truth and the driver its only writer. Ray's own `OptunaSearch` stores scheduler-stopped trials as
complete, leaves diverged ones running for ever, and knows neither constraints nor user attributes. Nor does Tune know
one fault from another: here a trial that is tried again is a new trial of Tune's and the same one of the study's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray import tune
from ray.tune.search import Searcher

from results.distributions import suggest
from results.front import objectives
from results.journal import (
    CHECKPOINT,
    CURVE,
    DIVERGED,
    KIND,
    METRICS,
    NODE,
    REASON,
    SECONDS,
    SEED,
    STATE,
    attempts_at,
    read_search,
    record_of,
    settled,
)
from results.trial_record import Attempt, Kind, State, TrialRecord
from search_spaces import SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.metrics.record import Metrics
from study import faults
from study.config import GuardsConfig
from study.journal import keep_attempts
from study.objective import guards
from study.resources import Resources


@dataclass
class _Open:
    """A trial without an outcome. `last` and `curve` are what its present attempt said."""

    trial: optuna.Trial
    config: TrialConfig
    attempts: list[Attempt]
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
        trained = int(result["trained"])
        if trained not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(result["fvu_worst"], trained)

    def end_attempt(self, kind: Kind, reason: str) -> None:
        """Write down how the present attempt ended."""
        self.attempts[-1] = replace(
            self.attempts[-1],
            node=self.last.get("hostname", ""),
            start=int(self.last.get("start", 0)),
            epochs=int(self.curve[-1]["epoch"]) if self.curve else 0,
            ended=True,
            kind=kind,
            reason=reason,
        )
        keep_attempts(self.trial.study, self.trial._trial_id, self.attempts)


class AskTellSearcher(Searcher):
    """Asks Optuna for trials until `target` have an outcome, and tells it every outcome as soon as it is known.

    With `batch` it asks for so many at once, and tells their outcomes in the order asked when all are known: what is
    asked then depends on no timing. An outcome that waits to be told is stored.

    `told` is called with the record of each trial that ends, `say` with a line on what befell one that goes on.
    `failure` holds the reason if the search was given up: most trials failed, or nothing can be stored. `ended` holds
    the one that `limit` gave: then no more trials are asked for, and those that run still end.
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
        resources: Resources,
        batch: int | None = None,
        limit: Callable[[], str | None] = lambda: None,
        told: Callable[[TrialRecord], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ):
        super().__init__()
        self._study = study
        self._space = space
        self._base = base
        self._target = target
        self._baseline = baseline
        self._guards = guards_config
        self._resources = resources
        self._told = told
        self._say = say
        self._batch = batch
        self._limit = limit
        self._asking = False
        self._untold: list[optuna.Trial] = []
        self._ready: list[_Open] = []
        self._running: dict[str, _Open] = {}
        self._dead: dict[str, _Open] = {}
        self._ended: list[TrialRecord] = []
        self.failure: str | None = None
        self.ended: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles searchers with its own state. Nothing of this one belongs there: the storage has it all."""
        return {}

    # ------------------------------------------------------------ asking

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """Return the next trial to run; None while only the end of others can show whether there is one."""
        while self.failure is None and not self._ready and self._wanted > 0 and not (self._batch and self._running):
            self._ask_batch() if self._batch else self._ask()
        if self.failure is None and self._ready:
            return self._start(trial_id, self._ready.pop(0))
        return None if self._running else Searcher.FINISHED

    @property
    def _wanted(self) -> int:
        """How many more trials are to be asked for."""
        self.ended = self.ended or self._limit()
        if self.ended:
            return 0
        open_trials = len(self._ready) + len(self._running) + len(self._untold)
        return self._target - len(settled(self._study)) - open_trials

    def _ask_batch(self) -> None:
        """Ask up to the next multiple of the batch, so that a resumed batch ends where it would have."""
        assert self._batch
        self._asking = True
        while self._wanted > 0:
            if (self._ask() + 1) % self._batch == 0:
                break
        self._asking = False
        self._tell_if_due()

    def _ask(self) -> int:
        """Take the next trial, an interrupted one before a new one, and return its number.

        What need not, or must not, run is settled at once.
        """
        trial = self._study.ask()
        values = suggest(trial, self._space)
        known = self._study._storage.get_trial(trial._trial_id)
        opened = _Open(trial, self._base, attempts_at(known))
        if STATE in known.user_attrs:
            self._note_outcome(opened)
            return trial.number
        trial.set_user_attr(SEED, self._base.seed)
        try:
            opened.config = self._space.to_config(self._base, values)
        except ConfigError as error:
            self._settle(opened, "refused", "refused", str(error))
            return trial.number
        if opened.attempts and opened.attempts[-1].kind not in faults.FINAL and not self._tried_again(opened):
            self._give_up(opened)  # one of FINAL stands here if the driver was lost before it could store the outcome
        else:
            self._ready.append(opened)
        return trial.number

    def _start(self, trial_id: str, opened: _Open) -> dict[str, Any]:
        room = self._resources.roomier(faults.doublings(opened.attempts))
        began = datetime.now(UTC).isoformat(timespec="seconds")
        opened.attempts.append(Attempt(began=began, cpus=room.cpus, gpus=room.gpus, memory=room.memory))
        keep_attempts(self._study, opened.trial._trial_id, opened.attempts)
        opened.curve, opened.last = [], {}
        self._running[trial_id] = opened
        return {
            "number": opened.trial.number,
            "attempt": len(opened.attempts),
            "config": opened.config.model_dump_json(),
            "room": room.bundle,
        }

    # ------------------------------------------------------------ telling

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep a report; the storage gets the curve's steering metric at once."""
        opened = self._running[trial_id]
        if result.get("notice") and "notice" not in opened.last:
            self._say(f"trial {opened.trial.number}: {result['notice']}")
        opened.take(result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended: by what it last said, or as stopped if it had more to say.

        Of a process that died `on_death` has more to say.
        """
        opened = self._running.pop(trial_id, None)
        if opened is None:
            return
        if result:
            opened.take(result)
        if error:
            self._dead[trial_id] = opened
        elif not opened.last:
            self._failed(opened, "worker lost", faults.last_words("worker lost"))
        elif opened.last["status"] == "running":
            opened.end_attempt("", "")
            self._settle(opened, "pruned", "", f"stopped after {opened.curve[-1]['epoch']:g} epochs")
        elif opened.last["status"] == "complete":
            opened.end_attempt("", "")
            self._settle(opened, "complete", "", "")
        else:
            self._failed(opened, opened.last["kind"], opened.last["reason"])

    def on_death(self, trial_id: str, text: str) -> None:
        """Take what Ray says of the death of a trial's process; `on_trial_complete` came before."""
        if (opened := self._dead.pop(trial_id, None)) is not None:
            kind = faults.kind_of_death(text)
            self._failed(opened, kind, faults.last_words(kind))

    def _failed(self, opened: _Open, kind: Kind, reason: str) -> None:
        """End an attempt that failed; try the trial again, or tell that it failed."""
        opened.end_attempt(kind, reason)
        if kind == "storage":
            self.failure = f"{reason}; mend that, then go on with --resume"
        elif self._tried_again(opened):
            self._say(f"trial {opened.trial.number}: {reason}; tried again")
            self._ready.insert(0, opened)
        else:
            self._give_up(opened)

    def _tried_again(self, opened: _Open) -> bool:
        room, last = self._resources.roomier(faults.doublings(opened.attempts)), opened.attempts[-1]
        before = (last.cpus, last.gpus, last.memory)
        return faults.tried_again(opened.attempts, roomier=(room.cpus, room.gpus, room.memory) != before)

    def _give_up(self, opened: _Open) -> None:
        last = opened.attempts[-1]
        more = "" if last.kind in faults.FINAL else f" ({len(opened.attempts)} attempts)"
        self._settle(opened, faults.STATE_OF.get(last.kind, "failed"), last.kind, last.reason + more)

    def _settle(self, opened: _Open, state: State, kind: Kind, reason: str) -> None:
        """Store the outcome of a trial, and tell it when its time has come."""
        trial, last = opened.trial, opened.last
        metrics = Metrics(**json.loads(last["metrics"])) if "metrics" in last else None
        if metrics is not None and not kind and faults.collapsed(metrics):
            kind = "collapsed codebook"
        # Without any constraint a trial would count as feasible; infeasible keeps the sampler away from here.
        constraints = {DIVERGED: float(state in ("diverged", "refused"))}
        if metrics is not None:
            trial.set_user_attr(METRICS, metrics.__dict__)
            constraints |= guards(metrics, self._baseline, self._guards)
        known = self._study._storage.get_trial(trial._trial_id).constraints
        for name, value in constraints.items():
            if name not in known:  # the driver may have been lost in the middle of this
                trial.set_constraint(name, value)
        attributes: dict[str, Any] = {REASON: reason, KIND: kind, CURVE: opened.curve}
        attributes |= {SECONDS: last.get("seconds", 0.0), NODE: last.get("hostname", "")}
        attributes |= {CHECKPOINT: last.get("checkpoint", "")}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr(STATE, state)  # last: with it the outcome is complete
        self._note_outcome(opened)

    def _note_outcome(self, opened: _Open) -> None:
        record = record_of(self._study._storage.get_trial(opened.trial._trial_id))
        self._untold.append(opened.trial)
        self._ended.append(record)
        self.failure = self.failure or faults.hopeless(self._ended)
        self._told(record)
        self._tell_if_due()

    def _tell_if_due(self) -> None:
        """Tell stored outcomes in the order asked; those of a batch only when it is complete."""
        if self._batch and (self._asking or self._ready or self._running):
            return
        for trial in sorted(self._untold, key=lambda trial: trial.number):
            tell(self._study, trial)
        self._untold = []

    def records(self) -> list[TrialRecord]:
        """Return the records of all trials with an outcome, by number."""
        return read_search(self._study)


def tell(study: optuna.Study, trial: optuna.Trial) -> None:
    """Tell Optuna the outcome that is stored with a trial.

    Complete has a value; what was stopped, diverged or was refused is pruned; faults of code or machine have failed.
    """
    known = record_of(study._storage.get_trial(trial._trial_id))
    if known.state == "complete" and known.metrics is not None:
        study.tell(trial, objectives(known.metrics)[: len(study.directions)])
    else:
        study.tell(trial, state=TrialState.FAIL if known.state == "failed" else TrialState.PRUNED)


class GivenUp(tune.Stopper):
    """Ends a search that was given up without waiting for the trials that run."""

    def __init__(self, searcher: AskTellSearcher):
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Return whether to stop them all."""
        return self._searcher.failure is not None


class Deaths(tune.Callback):
    """Hands on what Ray says of a process that died: a searcher is only told that it did."""

    def __init__(self, died: Callable[[str, str], None]):
        self._died = died

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks with its own state."""
        return {}

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Read what Tune has just written."""
        try:
            text = Path(trial.error_file).read_text(encoding="utf-8")
        except OSError:
            text = ""
        self._died(trial.trial_id, text)
