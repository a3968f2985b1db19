"""Optuna's storage of a study as its driver writes it: a journal file, or another. Only the driver writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.trial import TrialState

from results.records.optuna_trials import ATTEMPTS, attempts_at, damage_explained, name_in, reachable, read_search
from results.records.study_folder import StudyFolder
from results.records.trial_record import Kind
from spinlock_dist.atomic_files import read_json, write_json
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.search.driver_journal import DriverJournal, DriverStorage, damaged, repair
from study.search.optuna_internals import set_stored_attribute, wait_again


def open_journal(
    path: Path, name: str, objectives: int = 1, say: Callable[[str], None] = lambda _: None
) -> optuna.Study:
    """Open the study in the journal file at `path`, or begin it as `name`, to minimize so many objectives.

    The caller holds the study's own lock. Raises `SpinlockError` if the file is damaged elsewhere than at its end.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if repair(path):
        say(f"{path.name} had a damaged end, which was cut off; the whole is kept as {damaged(path).name}")
    Path(f"{path}.lock").unlink(missing_ok=True)  # a killed driver's; waiting for it to expire would take 30 s
    with damage_explained(path):
        storage = DriverStorage(DriverJournal(path, say))
        known = name_in(storage)
        study = optuna.create_study(
            storage=storage, study_name=known or name, directions=["minimize"] * objectives, load_if_exists=True
        )
        for trial in study.get_trials(deepcopy=False):
            attempts_at(trial)
        read_search(study, details=False)
    return study


def open_storage(
    folder: StudyFolder, config: StudyConfig, objectives: int = 1, say: Callable[[str], None] = lambda _: None
) -> optuna.Study:
    """Open, or begin, the search of `folder` where `config` has its trials kept; the folder says where that is.

    Raises `ConfigError` if the storage cannot be reached, or has another study of that name.
    """
    if config.storage is None:
        return open_journal(folder.journal, config.name, objectives, say)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    begun = folder.elsewhere.exists()
    path = folder.path.relative_to(Path(config.runs))
    name = str(path.parts[0]) if len(path.parts) == 1 else f"{path.parts[0]}/{path.parts[-1]}"
    if begun:
        name = read_json(folder.elsewhere)["study"]  # as it began, whatever the folder is called now
    try:
        with reachable(config.storage):
            study = optuna.create_study(
                storage=config.storage,
                study_name=name,
                directions=["minimize"] * objectives,
                load_if_exists=begun,
            )
    except optuna.exceptions.DuplicatedStudyError:
        raise ConfigError(f"--storage {config.storage} has a study '{name}' already: choose another --name") from None
    write_json(folder.elsewhere, {"url": config.storage, "study": name})
    return study


def resolved_url(url: str | None) -> str | None:
    """The URL of an Optuna storage, with an absolute path if it is a file.

    Raises `ConfigError` if no storage can be opened there, or if the URL has a password in it.
    """
    if url is None:
        return None
    with reachable(url):
        from sqlalchemy.engine import make_url

        parts = make_url(url)
        if parts.password is not None:
            raise ConfigError(
                "--storage: leave the password out, study.yaml keeps the URL; databases have files and variables of "
                "their own for it (~/.pgpass and PGPASSWORD, ~/.my.cnf)"
            )
        if parts.get_backend_name() == "sqlite" and parts.database:
            url = str(parts.set(database=str(Path(parts.database).resolve())))
        optuna.storages.get_storage(url).get_all_studies()
    return url


def release(study: optuna.Study, kind: Kind, reason: str) -> int:
    """Put every trial that is marked as running, but that nothing runs, back in the queue; return how many there were.

    It keeps its number, and its open attempt ends as `kind`. Left as running it would keep the sampler away from its
    surroundings (constant liar). A trial that has an outcome and only waits to be told with its batch keeps that.
    """
    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in stale:
        attempts = attempts_at(trial)
        if attempts and not attempts[-1].ended:
            epochs = int(max(trial.intermediate_values, default=0))
            attempts[-1] = replace(attempts[-1], ended=True, kind=kind, reason=reason, epochs=epochs)
            set_stored_attribute(study, trial, ATTEMPTS, [attempt.to_json() for attempt in attempts])
        wait_again(study, trial)
    return len(stale)
