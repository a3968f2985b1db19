"""Optuna's storage of a study as its driver writes it: a journal file, or another. Only the driver writes."""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from results.records.optuna_trials import ATTEMPTS, attempts_at, damage_explained, name_in, reachable, read_search
from results.records.study_folder import StudyFolder
from results.records.trial_record import Kind
from spinlock_dist.atomic_files import read_json, replacing, write_json
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.inputs import require_file
from study.config import StudyConfig
from study.search.optuna_internals import set_stored_attribute, wait_again


class _WholeLines(JournalFileBackend):
    """A journal file that is left as it was by a write that fails half-way, as on a full disk.

    It is kept open, so that it can be written again if it is deleted meanwhile: a deleted file lives on while it is
    open.
    """

    def __init__(self, path: Path, lock: JournalFileOpenLock, say: Callable[[str], None]):
        super().__init__(str(path), lock_obj=lock)
        self._path = path
        self._say = say
        self._keep()
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, self._folder)

    def _keep(self) -> None:
        self._kept = self._path.open("rb")
        self._let_go = weakref.finalize(self, self._kept.close)

    def _restore(self) -> None:
        """Write the journal again if it has gone, unless its folder has: then the study is not wanted any more."""
        if self._path.exists() or os.fstat(self._folder).st_nlink == 0 or not self._path.parent.is_dir():
            return
        self._kept.seek(0)
        with replacing(self._path) as draft:
            draft.write_bytes(self._kept.read())
        self._let_go()
        self._keep()
        self._say(f"{self._path} had gone while the study ran; it was written again, nothing is lost")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # reads on demand
        self._restore()
        return super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._restore()
        if not _ends_whole(self._path):
            repair(self._path)  # a line without an end would make one with the next, that nobody could read
        size = self._path.stat().st_size
        try:
            super().append_logs(logs)
        except OSError:
            os.truncate(self._path, size)
            raise


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
        storage = JournalStorage(_WholeLines(path, JournalFileOpenLock(str(path)), say))
        known = name_in(storage)
        study = optuna.create_study(
            storage=storage, study_name=known or name, directions=["minimize"] * objectives, load_if_exists=True
        )
        for trial in study.get_trials(deepcopy=False):
            attempts_at(trial)
        read_search(study)
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


def repair(path: Path) -> bool:
    """Cut off a half-written end, left by a driver or machine that was killed, and keep a copy; return whether it did.

    Optuna would refuse to load the file for ever after. Raises `SpinlockError` for damage with whole lines after it,
    which no interruption leaves.
    """
    if not path.exists():
        return False
    require_file(path, SpinlockError)
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


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def damaged(path: Path) -> Path:
    """The copy of a journal before its end was cut off."""
    return path.with_name(path.name + ".damaged")


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


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
            set_stored_attribute(study, trial, ATTEMPTS, [asdict(attempt) for attempt in attempts])
        wait_again(study, trial)
    return len(stale)
