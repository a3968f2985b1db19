"""Optuna's storage of a study: one journal file, written by one driver, and the record of the search."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from results.trial_record import Attempt, Kind, TrialRecord
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import Metrics
from study.objective import DIVERGED

STATE, REASON, METRICS, CURVE, SEED, SECONDS, NODE = "state", "reason", "metrics", "curve", "seed", "seconds", "node"
KIND, ATTEMPTS, CHECKPOINT = "kind", "attempts", "checkpoint"
BORROWED = "borrowed"
"""Attribute of a trial that the study did not run: where it comes from."""


class _WholeLines(JournalFileBackend):
    """A journal that a write which fails half-way, as on a full disk, leaves as it was."""

    def __init__(self, path: Path, lock: JournalFileOpenLock):
        super().__init__(str(path), lock_obj=lock)
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        size = self._path.stat().st_size
        try:
            super().append_logs(logs)
        except OSError:
            os.truncate(self._path, size)
            raise


def open_journal(
    path: Path, name: str, objectives: int = 1, say: Callable[[str], None] = lambda _: None
) -> optuna.Study:
    """Open, or begin, the study in the journal file at `path`, to minimize so many objectives.

    The caller holds the study's own lock. Raises `SpinlockError` if the file is damaged elsewhere than at its end.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if repair(path):
        say(f"{path.name} had a damaged end, which was cut off; the whole is kept as {damaged(path).name}")
    Path(f"{path}.lock").unlink(missing_ok=True)  # a killed driver's; waiting for it to expire would take 30 s
    storage = JournalStorage(_WholeLines(path, JournalFileOpenLock(str(path))))
    return optuna.create_study(
        storage=storage, study_name=name, directions=["minimize"] * objectives, load_if_exists=True
    )


class ReadOnlyBackend(JournalFileBackend):
    """A journal that only its driver may write: notes, deletions and the like are refused."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse."""
        raise PermissionError("a study's journal is written by its driver alone")


def read_journal(path: Path, name: str) -> optuna.Study:
    """Open a study's journal for reading; a driver may be writing to it meanwhile."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.load_study(storage=JournalStorage(ReadOnlyBackend(str(path))), study_name=name)


def repair(path: Path) -> bool:
    """Cut off what a killed driver or machine left half-written at the end, keeping a copy; return whether it did.

    Optuna would refuse to load the file for ever after. Raises `SpinlockError` for damage with whole lines after it,
    which no interruption leaves.
    """
    if not path.exists():
        return False
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [_is_whole(line) for line in lines]
    if all(whole):
        return False
    first = whole.index(False)
    if any(whole[first:]):
        raise SpinlockError(
            f"{path}, line {first + 1}: damaged; restore the file from a copy, or choose another --name"
        )
    shutil.copyfile(path, damaged(path))
    os.truncate(path, sum(map(len, lines[:first])))
    return True


def damaged(path: Path) -> Path:
    """Return where a journal is kept as it was before its end was cut off."""
    return path.with_name(path.name + ".damaged")


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def release(study: optuna.Study, kind: Kind, reason: str) -> int:
    """Enqueue every trial that nothing runs any more under its own number; return how many there were.

    The attempt at it ends as `kind`. Stale running trials would keep the sampler away from their surroundings
    (constant liar). A trial that has an outcome, and only waits to be told with others, keeps it.
    """
    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in stale:
        attempts = attempts_at(trial)
        if attempts and not attempts[-1].ended:
            epochs = int(max(trial.intermediate_values, default=0))
            attempts[-1] = replace(attempts[-1], ended=True, kind=kind, reason=reason, epochs=epochs)
            keep_attempts(study, trial._trial_id, attempts)
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    return len(stale)


def attempts_at(trial: FrozenTrial) -> list[Attempt]:
    """Return the attempts at a trial so far."""
    return [Attempt(**attempt) for attempt in trial.user_attrs.get(ATTEMPTS, [])]


def keep_attempts(study: optuna.Study, trial_id: int, attempts: Sequence[Attempt]) -> None:
    """Store the attempts at a trial."""
    study._storage.set_trial_user_attr(trial_id, ATTEMPTS, [asdict(attempt) for attempt in attempts])


def settled(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have an outcome, by number: complete, stopped, diverged, refused or failed."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    trials = study.get_trials(deepcopy=False, states=ended)
    return [trial for trial in trials if STATE in trial.user_attrs and BORROWED not in trial.user_attrs]


def borrowed(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that other studies, or the baseline's phase, ran."""
    return [trial for trial in study.get_trials(deepcopy=False) if BORROWED in trial.user_attrs]


def read_search(study: optuna.Study) -> list[TrialRecord]:
    """Return the records of the settled trials, by number."""
    return [record_of(trial) for trial in settled(study)]


def outcome(record: TrialRecord) -> dict[str, Any]:
    """Return what is stored of a trial that ended, for `record_of` to read."""
    known = {STATE: record.state, REASON: record.reason, CURVE: record.curve, SEED: record.seed}
    known |= {SECONDS: record.seconds, NODE: record.node, KIND: record.kind}
    return known if record.metrics is None else known | {METRICS: record.metrics.__dict__}


def record_of(trial: FrozenTrial) -> TrialRecord:
    """Return the record of a trial that has an outcome."""
    known = trial.user_attrs
    metrics = Metrics(**known[METRICS]) if METRICS in known else None
    curve = known.get(CURVE, [])
    return TrialRecord(
        phase="warm" if BORROWED in known else "search",
        arm=known.get(BORROWED, f"trial-{trial.number}"),
        number=trial.number,
        state=known[STATE],
        seed=known[SEED],
        params=trial.params,
        metrics=metrics,
        guards={name: value for name, value in trial.constraints.items() if name != DIVERGED},
        curve=curve,
        epochs=int(curve[-1]["epoch"]) if curve else 0,
        seconds=known.get(SECONDS, 0.0),
        node=known.get(NODE, ""),
        reason=known.get(REASON, ""),
        kind=known.get(KIND, ""),
        attempts=attempts_at(trial),
        checkpoint=known.get(CHECKPOINT, ""),
    )
