"""Optuna behind Ray Tune's Searcher interface, by ask and tell.

The storage is the truth and the driver its only writer. Ray's own `OptunaSearch` stores trials that the scheduler
stopped as complete, leaves diverged ones running for ever, and supports neither constraints nor user attributes. Tune
does not tell kinds of failure apart either: here a trial that is tried again is a new one to Tune and the same one to
the study.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune.search import Searcher

from results.analysis.pareto import told_values
from results.analysis.trial_summary import COLLAPSED, DUPLICATE
from results.records.optuna_distributions import suggest
from results.records.optuna_trials import (
    ATTEMPTS,
    CHECKPOINT,
    CURVE,
    DETAILS,
    DIVERGED,
    EPOCHS,
    KIND,
    METRICS,
    NODE,
    OUTCOME,
    PENALTY,
    PRIOR,
    REASON,
    SECONDS,
    SEED,
    STATE,
    TRAINING,
    attempts_at,
    attributes_of,
    finished_trials,
    has_outcome,
    prior_trials,
    read_search,
    record_of,
    scores,
)
from results.records.trial_record import BASELINE, Kind, State, TrialRecord
from search_spaces import SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.training.member import config_hash
from study.cluster.resources import Resources
from study.config import GuardsConfig
from study.events import StudyEvents
from study.search.constraints import Baseline, guards, penalty
from study.search.driver_journal import together
from study.search.optuna_internals import stored_trial, trial_at
from study.search.pending_trials import PendingTrial, TrialBatch, form_trial_batches
from study.worker import retry_policy
from study.worker.device import Device
from study.worker.device_health import DeviceHealth
from study.worker.retry_rules import rule_of

RECENT = 1_000
"""Ended trials among which one looks for what fails: to keep them all would take memory for ever."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What is searched, and how trials are handed out."""

    space: SearchSpace
    base: TrialConfig
    target: int
    """Trials that are to have an outcome."""
    baseline: Baseline
    guards: GuardsConfig
    resources: Resources
    slots: Callable[[], int] = lambda: 2**20
    """How many trial batches have room now."""
    members: Callable[[], int] = lambda: 1
    """Trials in a trial batch at most, as far as their settings allow it."""
    batch: int | None = None
    """Trials of a batch of a deterministic search."""
    health: DeviceHealth = field(default_factory=lambda: DeviceHealth(dict))
    """What is known of the devices."""
    training_of: Callable[[TrialConfig], str] = config_hash
    """What of a config its outcome depends on: of two trials that have it in common one is trained."""


class AskTellSearcher(Searcher):
    """Asks Optuna for trials until `plan.target` have an outcome, and tells it every outcome as soon as it is known.

    It asks for `plan.members()` trials at once and hands them out as trial batches that can train in lock step.

    A deterministic search (`plan.batch`) must not depend on which trial ends first. So it asks for a whole batch before
    any of it is told, and tells the outcomes in the order asked when all of them are known. Whatever the sampler knows
    when it is asked for trial n is then a function of the numbers below n's batch alone. The outcomes that wait to be
    told are in the storage, so that a resumed search tells them as the lost driver would have.

    `stop_reason` gives the reason to ask for no more trials, if there is one: those that run then still end.
    `failure` is the reason why the search was given up: most trials failed, nothing can be stored, no device is left.

    A trial under which a device failed waits until another trial has ended or the device is set aside: at once it would
    be given the same device. The process that it leaves on a device that is set aside stays there and keeps others from
    it; to Tune it goes on running.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: SearchPlan,
        events: StudyEvents | None = None,
        stop_reason: Callable[[], str | None] = lambda: None,
    ):
        super().__init__()
        self._study = study
        self._plan = plan
        self._events = events or StudyEvents()
        self._stop_reason = stop_reason
        self._interrupted = len([trial for trial in _waiting(study) if attempts_at(trial)])
        # Counted from here on: to go through all trials at each ask would take ever longer.
        self._finished = len(finished_trials(study))
        self._asking = False
        self._untold: list[optuna.Trial] = []
        self._asked: list[PendingTrial] = []
        self._ready: list[TrialBatch] = []
        self._running: dict[str, TrialBatch] = {}
        self._workers: dict[str, int] = {}
        self._dead: dict[str, TrialBatch] = {}
        self._put_back: list[TrialBatch] = []
        self._keeping: dict[str, str] = {}
        self._ended: deque[TrialRecord] = deque(maxlen=RECENT)
        self._first: dict[str, int] = {}
        self._twins: dict[int, list[PendingTrial]] = {}
        for trial in prior_trials(study):
            if trial.user_attrs[PRIOR] == BASELINE:
                self._first[plan.training_of(plan.space.to_config(plan.base, trial.params))] = trial.number
        for trial in finished_trials(study):
            self._note_training(trial)
        self.failure: str | None = None
        self.ended: str | None = None
        self.over = False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles searchers with its own state, and the storage has all there is to resume from."""
        return {}

    # ------------------------------------------------------------ asking

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        """The next trial batch to run; None while there is no room, or only the end of others can show whether there is
        one."""
        if len(self._running) + len(self._keeping) >= self._plan.slots():
            return None
        # If the machine dies, what was asked for since the last outcome may be asked anew: snapshots know their config.
        with together(self._study, sync=False):
            return self._suggest(trial_id)

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        while (
            self.failure is None and not self._ready and self._wanted > 0 and not (self._plan.batch and self._running)
        ):
            self._ask_several()
        if not self._ready and not self._running:
            self._take_up()
        if self.failure is None and self._ready:
            return self._start(trial_id, self._ready.pop(0))
        self.over = not self._running
        return Searcher.FINISHED if self.over else None

    @property
    def _wanted(self) -> int:
        """How many more trials are to be asked for."""
        self.ended = self.ended or self._stop_reason()
        if self.ended:
            return 0
        trial_batches = (*self._ready, *self._running.values(), *self._dead.values(), *self._put_back)
        pending_trials = (
            sum(len(trial_batch.trials) for trial_batch in trial_batches) + len(self._asked) + len(self._untold)
        ) + sum(map(len, self._twins.values()))
        return self._plan.target - self._finished - pending_trials

    def _ask_several(self) -> None:
        """Ask for trials and form trial batches of those that have to run; first for all that were interrupted.

        The batch of a deterministic search ends at the next multiple of its size, so that a resumed search has the same
        batches. Interrupted trials are asked for together, so that those which share snapshots come together again.
        """
        self._asking = True
        count, members = 0, self._plan.members()
        while self._wanted > 0:
            number = self._ask()
            count += 1
            if self._plan.batch is not None:
                if (number + 1) % self._plan.batch == 0:
                    break
            elif count >= max(members, self._interrupted):
                break
        self._interrupted = 0
        self._ready += form_trial_batches(self._asked, members)
        self._asked = []
        self._asking = False
        self._tell_if_due()

    def _ask(self) -> int:
        """Ask Optuna for a trial, which gives interrupted ones before new ones, and return its number.

        What need not, or must not, run is finished at once.
        """
        trial = self._study.ask()
        values = suggest(trial, self._plan.space)
        known = stored_trial(trial)
        pending = PendingTrial(trial, self._plan.base, attempts_at(known))
        if has_outcome(known):  # it had its outcome before the driver was lost, and only waited to be told
            self._note_training(known)
            self._note_outcome(pending)
            return trial.number
        try:
            pending.config = self._plan.space.to_config(self._plan.base, values)
            training = self._plan.training_of(pending.config)
        except ConfigError as error:
            self._finish(pending, "refused", "refused", str(error))
            return trial.number
        trial.set_user_attr(TRAINING, training)
        first = self._first.setdefault(training, trial.number)
        if first != trial.number:
            self._wait_for(first, pending)
            return trial.number
        last = pending.attempts[-1] if pending.attempts and not pending.attempts[-1].trial_batch else None
        # A kind that is never retried stands here only if the driver was lost before it could store the outcome; the
        # trial then runs again and ends in the same way, with its curve.
        if last is not None and rule_of(last.kind).retried and not self._should_retry(pending):
            self._give_up(pending)
        else:
            self._asked.append(pending)
        return trial.number

    def _note_training(self, trial: FrozenTrial) -> None:
        """Note of a trial with an outcome what it trained, unless that says nothing."""
        known = attributes_of(trial)
        if known[STATE] != "failed" and TRAINING in known:
            self._first.setdefault(known[TRAINING], trial.number)

    def _wait_for(self, first: int, pending: PendingTrial) -> None:
        """Finish a trial as the one that trains the same, now or once that has an outcome."""
        known = trial_at(self._study, first)
        if has_outcome(known):
            self._finish_as(known, pending)
        else:
            self._twins.setdefault(first, []).append(pending)

    def _finish_as(self, known: FrozenTrial, pending: PendingTrial) -> None:
        """Store the outcome of the trial `known`, which trains the same, as that of another."""
        earlier, theirs = record_of(known, details=False), attributes_of(known)
        copied = {name: theirs[name] for name in (METRICS, PENALTY, CURVE, DETAILS, EPOCHS) if name in theirs}
        first = "the uniform baseline" if PRIOR in known.user_attrs else f"trial {known.number}"
        reason = f"the same plan and training as {first}, which {_had(earlier)}"
        copied |= {STATE: earlier.state, KIND: DUPLICATE, REASON: reason, SEED: self._plan.base.seed}
        self._store(pending, known.constraints, copied)

    def _start(self, trial_id: str, trial_batch: TrialBatch) -> dict[str, Any]:
        doublings = retry_policy.resource_doublings(trial_batch.trials[0].attempts) if trial_batch.alone else 0
        resources = self._plan.resources.scaled(doublings)
        for pending in trial_batch.trials:
            pending.begin_attempt(resources, "" if trial_batch.alone else trial_batch.name)
        taken = {self._workers[running] for running in self._running}
        self._workers[trial_id] = next(number for number in range(1, len(taken) + 2) if number not in taken)
        self._running[trial_id] = trial_batch
        return {
            "trial_batch": trial_batch.name,
            "shown": trial_batch.shown,
            "worker": self._workers[trial_id],
            "attempt": trial_batch.attempt,
            "members": [
                {"number": pending.number, "config": pending.config.model_dump_json()} for pending in trial_batch.trials
            ],
            "stopped": [],
            "held": [],
            "resources": resources.bundle,
        }

    # ------------------------------------------------------------ telling

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep reports, and finish the members that the scheduler stopped; the others of their batch continue."""
        if trial_id in self._keeping:
            return
        trial_batch = self._running[trial_id]
        self._take(trial_batch, result)
        self._suspect_device(trial_batch)
        if faulty := [pending for pending in trial_batch.trials if _met_a_device_fault(pending)]:
            self._on_device_fault(trial_id, faulty)
            return
        for number in result.get("stopped", ()):
            if (pending := trial_batch.leave(number)) is not None:
                self._end(pending)

    def _take(self, trial_batch: TrialBatch, result: dict[str, Any]) -> None:
        by_number = {pending.number: pending for pending in trial_batch.trials}
        for report in result.get("reports", ()):
            pending = by_number.get(report["number"])
            if pending is None:
                continue
            if report.get("notice") and "notice" not in pending.last:
                self._events.on_message(f"{trial_batch.title}: {report['notice']}")
            device = {"device": Device(*result["device"])} if "device" in result else {}
            pending.take({**report, "hostname": result.get("hostname", ""), **device})

    def _suspect_device(self, trial_batch: TrialBatch) -> None:
        """Take exceptions for device faults where they come from one device alone."""
        device = trial_batch.trials[0].device
        if device is None or not device.is_gpu:
            return
        raised = [pending for pending in trial_batch.trials if _raised_an_exception(pending)]
        if not raised:
            self._plan.health.works(device)
        elif self._plan.health.suspected(device, trial_batch.name):
            for pending in raised:
                pending.last["kind"] = "device fault"

    def _on_device_fault(self, trial_id: str, faulty: Sequence[PendingTrial]) -> None:
        """Note a device fault; where the device is set aside its process stays, otherwise it is about to end."""
        trial_batch, device = self._running[trial_id], faulty[0].device
        assert device is not None
        health, reason = self._plan.health, faulty[0].last["reason"]
        known = device.key in health.set_aside
        if not health.fault(device, trial_batch.name, reason):
            self._events.on_message(f"{device} failed under {trial_batch.title}; its process is started anew")
            return
        if not known:
            self._events.on_message(f"{device} is set aside, one training after another failed on it: {reason}")
        del self._running[trial_id]
        self._keeping[trial_id] = device.node_id
        for pending in trial_batch.trials:
            pending.end_attempt(pending.last["kind"], pending.last["reason"])
        self._failed(trial_batch)
        self.failure = self.failure or health.reason_to_end
        self._take_up()

    def keeps_device(self, trial_id: str) -> bool:
        """Whether the process of a trial of Tune's is to keep its device from others."""
        return trial_id in self._keeping

    @property
    def crowded_out(self) -> bool:
        """Whether all places are taken by processes that keep a device. One whose node has left takes none."""
        if not self._keeping:
            return False
        there = self._plan.health.gpus()
        kept = sum(node in there for node in self._keeping.values())
        return 0 < kept >= self._plan.slots()

    @property
    def keeps_devices(self) -> bool:
        """Whether there are processes that keep a device."""
        return bool(self._keeping)

    def _take_up(self) -> None:
        """Have the trials that were put back tried next."""
        self._ready = self._put_back + self._ready
        self._put_back = []

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Finish the trials of a batch by what each last reported; what was still running was stopped by the scheduler.

        If the process died (`error`), Tune does not say of what: `on_death` is called next and does.
        """
        self._keeping.pop(trial_id, None)
        trial_batch = self._running.pop(trial_id, None)
        if trial_batch is None:
            return
        if result:
            self._take(trial_batch, result)
        if error:
            self._dead[trial_id] = trial_batch
            return
        failed = [pending for pending in trial_batch.trials if pending.last.get("status") == "failed"]
        silent = [pending for pending in trial_batch.trials if not pending.last]
        for pending in [each for each in trial_batch.trials if each not in (*failed, *silent)]:
            trial_batch.leave(pending.number)
            self._end(pending)
        for pending in failed:
            pending.end_attempt(pending.last["kind"], pending.last["reason"])
        for pending in silent:
            pending.end_attempt("worker lost", retry_policy.death_reason("worker lost"))
        self._failed(trial_batch)

    def on_death(self, trial_id: str, text: str) -> None:
        """Handle a dead process, by Ray's words for its death; `on_trial_complete` came before."""
        if (trial_batch := self._dead.pop(trial_id, None)) is not None:
            kind = retry_policy.failure_kind_of_death(text)
            for pending in trial_batch.trials:
                if pending.last.get("status") == "failed":  # its process ended itself after it had said why
                    pending.end_attempt(pending.last["kind"], pending.last["reason"])
                else:
                    pending.end_attempt(kind, retry_policy.death_reason(kind))
            self._failed(trial_batch)

    def _end(self, pending: PendingTrial) -> None:
        """Finish a trial that completed or was stopped."""
        pending.end_attempt("", "")
        if pending.device is not None:
            self._plan.health.served(pending.device)
        self._take_up()
        if pending.last["status"] == "complete":
            self._finish(pending, "complete", "", "")
        else:
            self._finish(pending, "pruned", "", f"stopped after {pending.curve[-1]['epoch']:g} epochs")

    def _failed(self, trial_batch: TrialBatch) -> None:
        """Decide what is left of a trial batch whose attempt failed: try again, together or in parts, or give up.

        Three cases, in this order:

        1. The failure is known to be a trial's own (its loss was not finite), or the trial was alone. The retry policy
           decides about that trial, and the rest of the batch is not charged.
        2. What the others share was lost, a process or a node. They are resumed together from their common snapshot.
        3. Anything else, e.g. an exception or a lack of memory, may be the fault of any of them; nothing says of which.
           The batch is tried again in halves, and a half that fails in halves again. A culprit among M trials is alone
           after log2 M failures, where case 1 charges it; the innocent halves finish on the way.
        """
        for pending in trial_batch.trials:
            pending.store_attempts()
        lasts = [pending.attempts[-1] for pending in trial_batch.trials]
        if ending := next((last for last in lasts if rule_of(last.kind).ends_search), None):
            self.failure = f"{ending.reason}; fix that, then resume with --resume"
            return
        again: list[TrialBatch] = []
        for pending in list(trial_batch.trials):
            if pending.last.get("own") or trial_batch.alone:
                trial_batch.leave(pending.number)
                if self._should_retry(pending):
                    self._events.on_message(f"trial {pending.number}: {pending.attempts[-1].reason}; tried again")
                    again.append(TrialBatch.of([pending]))
                else:
                    self._give_up(pending)
        if trial_batch.trials:
            together = retry_policy.retries_together([pending.attempts for pending in trial_batch.trials])
            again += [trial_batch] if together else trial_batch.split()
            parts = "" if together else " in parts"
            self._events.on_message(f"{trial_batch.title}: {lasts[0].reason}; tried again{parts}")
        if lasts and lasts[0].kind == "device fault":
            self._put_back += again
        else:
            self._ready = again + self._ready
        if trial_batch.name not in [each.name for each in again]:
            self._events.on_batch_end(trial_batch.name)

    def _should_retry(self, pending: PendingTrial) -> bool:
        more = self._plan.resources.scaled(retry_policy.resource_doublings(pending.attempts))
        last = pending.attempts[-1]
        scaled = (more.cpus, more.gpus, more.memory) != (last.cpus, last.gpus, last.memory)
        return retry_policy.should_retry(pending.attempts, scaled)

    def _give_up(self, pending: PendingTrial) -> None:
        last = pending.attempts[-1]
        more = f" ({len(pending.attempts)} attempts)" if rule_of(last.kind).retried else ""
        self._finish(pending, rule_of(last.kind).state, last.kind, last.reason + more)

    def _finish(self, pending: PendingTrial, state: State, kind: Kind, reason: str) -> None:
        """Store the outcome of a trial, and tell it when its time has come.

        The driver may be killed between any two of these writes. `OUTCOME` is written last: without it a resumed search
        takes the trial for unfinished, runs it again from its snapshot and writes everything anew; with it, it tells
        what is stored and runs nothing. Constraints may not be overwritten, so those that are there already stay.
        """
        last = pending.last
        metrics = Metrics.from_json(json.loads(last["metrics"])) if "metrics" in last else None
        if metrics is not None and not kind and retry_policy.collapsed(metrics):
            kind = COLLAPSED
        # A trial without any constraint would count as feasible. One that diverged or was refused has no metrics to
        # compute guards from, so it breaks this one: the sampler then keeps away from settings like it.
        constraints = {DIVERGED: float(state in ("diverged", "refused"))}
        known: dict[str, Any] = {STATE: state, REASON: reason, KIND: kind, SEED: self._plan.base.seed}
        known |= {SECONDS: last.get("seconds", 0.0), NODE: last.get("hostname", "")}
        known |= {CHECKPOINT: last.get("checkpoint", "")} | scores(metrics, pending.curve)
        if metrics is not None:
            constraints |= guards(metrics, self._plan.baseline, self._plan.guards)
            known[PENALTY] = penalty(metrics, self._plan.baseline, self._plan.guards)
        self._store(pending, constraints, known)

    def _store(self, pending: PendingTrial, constraints: Mapping[str, float], known: Mapping[str, Any]) -> None:
        there = stored_trial(pending.trial).constraints
        with together(self._study):
            for name, value in constraints.items():
                if name not in there:
                    pending.trial.set_constraint(name, value)
            attempts = [attempt.to_json() for attempt in pending.attempts]
            pending.trial.set_user_attr(OUTCOME, {**known, ATTEMPTS: attempts} if attempts else known)
        self._note_outcome(pending)

    def _note_outcome(self, pending: PendingTrial) -> None:
        known = stored_trial(pending.trial)
        record = record_of(known, details=False)
        self._untold.append(pending.trial)
        self._ended.append(record)
        self.failure = self.failure or retry_policy.reason_to_give_up(list(self._ended))
        self._events.on_trial_end(record_of(known))
        self._tell_if_due()
        twins = self._twins.pop(pending.number, [])
        if record.state != "failed":
            for twin in twins:
                self._finish_as(known, twin)
            return
        # A failure, of the code or the machine, says nothing of the training: the next of them is trained.
        self._first.pop(known.user_attrs.get(TRAINING, ""), None)
        if twins:
            self._first[known.user_attrs[TRAINING]] = twins[0].number
            self._twins |= {twins[0].number: twins[1:]} if twins[1:] else {}
            self._ready.append(TrialBatch.of(twins[:1]))

    def _tell_if_due(self) -> None:
        """Tell stored outcomes in the order asked; those of a batch only when it is complete."""
        if self._plan.batch and (
            self._asking or self._ready or self._running or self._dead or self._twins or self._put_back
        ):
            return
        for trial in sorted(self._untold, key=lambda trial: trial.number):
            tell(self._study, trial)
        self._finished += len(self._untold)
        self._untold = []

    def records(self) -> list[TrialRecord]:
        """The records of all trials with an outcome, by number."""
        return read_search(self._study)


def _waiting(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that wait to be asked for."""
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def tell(study: optuna.Study, trial: optuna.Trial) -> None:
    """Tell Optuna the outcome that is stored with a trial.

    A complete trial has a value; one that was stopped, diverged or was refused is pruned; other failures are failed.
    """
    stored = stored_trial(trial)
    known = record_of(stored, details=False)
    if known.state == "complete" and known.metrics is not None:
        study.tell(trial, told_values(known.metrics, attributes_of(stored).get(PENALTY, 0.0), len(study.directions)))
    else:
        study.tell(trial, state=TrialState.FAIL if known.state == "failed" else TrialState.PRUNED)


def _raised_an_exception(pending: PendingTrial) -> bool:
    """Whether it ended so, and it may be the fault of what it shares."""
    last = pending.last
    return last.get("status") == "failed" and last["kind"] == "exception" and not last.get("own")


def _met_a_device_fault(pending: PendingTrial) -> bool:
    return pending.last.get("status") == "failed" and pending.last["kind"] == "device fault"


def _had(record: TrialRecord) -> str:
    return {"complete": "completed", "pruned": "was stopped"}.get(record.state, record.state)


class StopWhenGivenUp(tune.Stopper):
    """Ends a search that was given up, without waiting for the trials that run, or that waits for nothing else than
    processes which keep devices."""

    def __init__(self, searcher: AskTellSearcher):
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop them all."""
        found = self._searcher
        return found.failure is not None or found.crowded_out or (found.over and found.keeps_devices)
