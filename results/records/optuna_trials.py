"""The search of a study in Optuna's storage: the attributes of its trials, and reading them as records.

Only the driver writes there, through `study.search.storage`; readers need not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from results.records.journal import JournalReader
from results.records.packed import pack, unpack
from results.records.study_folder import StudyFolder
from results.records.trial_record import BASELINE, Attempt, TrialRecord
from spinlock_dist.atomic_files import read_json, require_regular
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.metrics.record import Metrics

OUTCOME = "outcome"
"""Attribute of a trial that has ended: what became of it, by the names below. In studies of earlier versions each of
them is an attribute of its own; `attributes_of` reads both."""
STATE, REASON, METRICS, CURVE, SEED, SECONDS, NODE = "state", "reason", "metrics", "curve", "seed", "seconds", "node"
KIND, CHECKPOINT, PENALTY, EPOCHS = "kind", "checkpoint", "penalty", "epochs"
DETAILS = "details"
"""Curve and `DETAILED` metrics, packed: nine tenths of what is known of a trial, wanted only for tables and reports."""
DETAILED = ("codebooks", "resampled", "mse_raw", "reference_fvu", "bits", "bits_carried")
ATTEMPTS, TRAINING = "attempts", "training"
"""Attributes of a trial from before it has ended."""
PRIOR = "borrowed"
"""Attribute of a prior trial, which this study did not run: where it comes from."""
DIVERGED = "diverged"
"""Constraint of a trial that could not be scored: 1 if it diverged or was refused, 0 otherwise."""
ENDED = "ended"
"""Attribute of a study: why its search ended; None until it has."""


def read_journal(path: Path) -> optuna.Study:
    """Open a study's journal for reading; a driver may be writing to it meanwhile.

    Raises `SpinlockError` if it is damaged, or if there is no study in it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with damage_explained(path, OSError):
        require_regular(path)
        storage = JournalStorage(JournalReader(path))
        name = name_in(storage)
        if name is None:
            raise SpinlockError(f"{path}: has no trials")
        return optuna.load_study(storage=storage, study_name=name)


@contextmanager
def damage_explained(path: Path, *also: type[Exception]) -> Iterator[None]:
    """Turn what Optuna raises over lines that are no entries of a journal, or `also`, into a `SpinlockError`."""
    kinds: tuple[type[Exception], ...] = (ValueError, LookupError, TypeError, AttributeError, AssertionError, *also)
    try:
        yield
    except kinds as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpinlockError(f"{path}: cannot be read ({reason}); restore the file from a copy") from None


def name_in(storage: JournalStorage) -> str | None:
    """The name that the study of a journal began with, whatever its folder is called now; None if there is none."""
    return next((study.study_name for study in storage.get_all_studies()), None)


def open_search(folder: StudyFolder) -> optuna.Study:
    """Open the search in a folder for reading, wherever its trials are kept.

    Raises `SpinlockError` if that is a storage which cannot be reached.
    """
    if not folder.elsewhere.exists():
        return read_journal(folder.journal)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = read_json(folder.elsewhere)
    with reachable(known["url"]):
        return optuna.load_study(storage=known["url"], study_name=known["study"])


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn an error of an Optuna storage, or of the connection to it, into a `ConfigError` of one line."""
    from sqlalchemy.exc import SQLAlchemyError  # only now: few studies need it

    try:
        yield
    except optuna.exceptions.DuplicatedStudyError:
        raise
    except (SQLAlchemyError, ImportError, ValueError, KeyError, OSError, optuna.exceptions.OptunaError) as error:
        reason = " ".join(str(error).split()).partition(" (Background on this error")[0]
        raise ConfigError(f"--storage {url}: {reason[:300]}") from None


def attempts_at(trial: FrozenTrial) -> list[Attempt]:
    """The attempts at a trial."""
    return [Attempt.from_json(attempt) for attempt in attributes_of(trial).get(ATTEMPTS, [])]


def attributes_of(trial: FrozenTrial) -> Mapping[str, Any]:
    """The attributes of a trial, what became of it among them."""
    known = dict(trial.user_attrs)
    return known | known.pop(OUTCOME, {})


def has_outcome(trial: FrozenTrial) -> bool:
    """Whether it is stored how a trial ended; Optuna may not have been told yet."""
    return OUTCOME in trial.user_attrs or STATE in trial.user_attrs


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials by number: complete, stopped, diverged, refused or failed."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    trials = study.get_trials(deepcopy=False, states=ended)
    return [trial for trial in trials if has_outcome(trial) and PRIOR not in trial.user_attrs]


def prior_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The prior trials: those of other studies, and of this one's baseline."""
    return [trial for trial in study.get_trials(deepcopy=False) if PRIOR in trial.user_attrs]


def read_search(study: optuna.Study, details: bool = True) -> list[TrialRecord]:
    """The records of the finished trials by number; see `record_of`."""
    return [record_of(trial, details) for trial in finished_trials(study)]


def outcome(record: TrialRecord) -> dict[str, Any]:
    """The attributes to store with a finished trial, for `record_of` to read."""
    known = {STATE: record.state, REASON: record.reason, KIND: record.kind, SEED: record.seed}
    known |= {SECONDS: record.seconds, NODE: record.node}
    return {OUTCOME: known | scores(record.metrics, record.curve)}


def scores(metrics: Metrics | None, curve: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What an outcome holds of metrics and curve, its details packed."""
    plain = {} if metrics is None else metrics.to_json()
    details = {name: plain.pop(name) for name in DETAILED if name in plain}
    known = {EPOCHS: int(curve[-1]["epoch"]) if curve else 0, DETAILS: pack({CURVE: curve, METRICS: details})}
    return known if metrics is None else known | {METRICS: plain}


def metrics_of(known: Mapping[str, Any], details: Mapping[str, Any] | None = None) -> Metrics | None:
    """The metrics among the attributes of a trial; None if it was never scored. Without `details` those are empty."""
    if METRICS not in known:
        return None
    return Metrics.from_json({"mse_raw": {}, "reference_fvu": {}, **known[METRICS], **(details or {}).get(METRICS, {})})


def record_of(trial: FrozenTrial, details: bool = True) -> TrialRecord:
    """The record of a finished trial.

    Without `details`, which takes a tenth of the time, its curve and the `DETAILED` metrics may be empty. Raises
    `SpinlockError` if they are damaged.
    """
    known = attributes_of(trial)
    detailed = _unpacked(trial.number, known[DETAILS]) if details and DETAILS in known else {}
    curve, attempts = detailed.get(CURVE, known.get(CURVE, [])), attempts_at(trial)
    return TrialRecord(
        phase="warm" if PRIOR in known else "search",
        arm=known.get(PRIOR, f"trial-{trial.number}"),
        number=trial.number,
        state=known[STATE],
        seed=known[SEED],
        params=trial.params,
        metrics=metrics_of(known, detailed),
        guards={name: value for name, value in trial.constraints.items() if name != DIVERGED},
        curve=curve,
        epochs=known.get(EPOCHS, int(curve[-1]["epoch"]) if curve else 0),
        seconds=known.get(SECONDS, 0.0),
        node=known.get(NODE, ""),
        device=attempts[-1].device if attempts else "",
        model=attempts[-1].model if attempts else "",
        reason=known.get(REASON, ""),
        kind=known.get(KIND, ""),
        attempts=attempts,
        checkpoint=known.get(CHECKPOINT, ""),
    )


def _unpacked(number: int, details: Any) -> dict[str, Any]:
    try:
        return dict(unpack(details))
    except (ValueError, TypeError) as error:
        raise SpinlockError(f"trial {number} is damaged in its storage ({error}); restore that from a copy") from None


def warm_records(study: optuna.Study) -> list[TrialRecord]:
    """The records of the prior trials from earlier studies."""
    return [record_of(trial) for trial in prior_trials(study) if trial.user_attrs[PRIOR] != BASELINE]
