"""A study's journal as its driver writes it: whole lines, few of them, and what belongs together at once.

`DriverStorage` uses Optuna's journal storage beyond what is public, checked on 5.0.0; what it relies on is held by
tests/unit/test_driver_journal.py.
"""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from results.records.journal import Entry, JournalReader, folded
from spinlock_dist.atomic_files import replacing
from spinlock_dist.errors import SpinlockError
from spinlock_dist.inputs import require_file


class DriverJournal(JournalReader):
    """A journal file that is left as it was by a write that fails half-way, as on a full disk.

    It is kept open, so that it can be written again if it is deleted meanwhile: a deleted file lives on while it is
    open. What is written survives the driver's death, and what was written up to the end of a synced block the
    machine's too.
    """

    def __init__(self, path: Path, say: Callable[[str], None]):
        super().__init__(path, JournalFileOpenLock(str(path)))
        self._say = say
        self._own: list[Entry] = []
        """Entries of this driver that its storage has not read yet."""
        self._held: list[Entry] = []
        """Entries that are not in the file yet: those written together, or that it could not take."""
        self._first = 0
        """Trials before those of the held entries."""
        self._holding = False
        self.count: Callable[[], int] = lambda: 0
        """How many trials there are."""
        self._keep()
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, self._folder)

    def _keep(self) -> None:
        self._kept = self.path.open("rb")
        self._let_go = weakref.finalize(self, self._kept.close)

    def _restore(self) -> None:
        """Write the journal again if it has gone, unless its folder has: then the study is not wanted any more."""
        if self.path.exists() or os.fstat(self._folder).st_nlink == 0 or not self.path.parent.is_dir():
            return
        self._kept.seek(0)
        with replacing(self.path) as draft, draft.open("wb") as file:
            shutil.copyfileobj(self._kept, file)
        self._let_go()
        self._keep()
        self._say(f"{self.path} had gone while the study ran; it was written again, nothing is lost")

    def read_logs(self, log_number_from: int) -> Iterator[Entry]:  # type: ignore[override]  # reads on demand
        """Yield the entries since the last one: those written here are not read again."""
        own, self._own = self._own, []
        yield from own
        if not self._held:
            self._restore()
            yield from self._others(log_number_from)

    def _others(self, log_number_from: int = -1) -> Iterator[Entry]:
        """Yield what the file has beyond what was read or written here."""
        if log_number_from == 0 or self.path.stat().st_size > self.offset:
            yield from super().read_logs(log_number_from)

    @contextmanager
    def together(self, sync: bool) -> Iterator[None]:
        """Write the entries of the block at once, at its end; if `sync`, wait until the disk has them.

        Also where it fails: the storage knows them, and what comes later builds on them. A block in another writes what
        that has gathered so far.
        """
        before, self._holding = self._holding, True
        try:
            yield
        finally:
            self._holding = before
            self._write(sync)

    def append_logs(self, logs: list[Entry]) -> None:
        """Write entries, or hold them back for the others of a block."""
        entries = [json.loads(json.dumps(entry)) for entry in logs]  # as whoever reads the file will have them
        if not self._held:
            self._restore()
            self._own += self._others()
            self._first = self.count()
        self._held += entries
        if not self._holding:
            try:
                self._write()
            except OSError:
                del self._held[-len(entries) :]  # the storage never learns of them
                raise
        self._own += entries

    def _write(self, sync: bool = False) -> None:
        if not self._held:
            return
        self._restore()
        if not _ends_whole(self.path):
            repair(self.path)  # a line without an end would make one with the next, that nobody could read
        size = self.path.stat().st_size
        if size != self.offset:
            raise SpinlockError(f"{self.path}: another process wrote into it, which only the study's driver may")
        text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in folded(self._held, self._first))
        try:
            with self.path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError:
            os.truncate(self.path, size)
            raise
        self.offset += len(text)
        self._held = []


class DriverStorage(JournalStorage):
    """The storage of a study's driver."""

    def __init__(self, journal: DriverJournal):
        super().__init__(journal)
        self.together = journal.together
        journal.count = lambda: len(self._replay_result._trials)
        self._open: list[int] = []
        self._seen = 0

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's; trials that wait or run are found without a look at all that have ended, of which Optuna asks
        before each new one."""
        if states is None or deepcopy or any(state in states for state in TrialState if state.is_finished()):
            return super().get_all_trials(study_id, deepcopy, states)
        with self._thread_lock:
            self._sync_with_backend()
            known = self._replay_result._study_id_to_trial_ids[study_id]
            trials = [self._replay_result._trials[each] for each in (*self._open, *known[self._seen :])]
            self._open = [trial._trial_id for trial in trials if not trial.state.is_finished()]
            self._seen = len(known)
            return [trial for trial in trials if trial.state in states]


def together(study: optuna.Study, sync: bool = True) -> AbstractContextManager[None]:
    """Have what is stored in the block written at once, if the storage is a journal; see `DriverJournal.together`."""
    storage = study._storage
    return storage.together(sync) if isinstance(storage, DriverStorage) else nullcontext()


# ---------------------------------------------------------------- damage


def repair(path: Path) -> bool:
    """Cut off a half-written end, left by a driver or machine that was killed, and keep a copy; return whether it did.

    Optuna would refuse to load the file for ever after. Raises `SpinlockError` for damage with whole lines after it,
    which no interruption leaves.
    """
    if not path.exists():
        return False
    require_file(path, SpinlockError)
    whole, first, line = 0, None, b""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not _looks_whole(line):
                first = first or number
            elif first is not None:
                raise SpinlockError(
                    f"{path}, line {first}: damaged; restore the file from a copy, or choose another --name"
                )
            else:
                whole += len(line)
    if first is None:
        if not line or _is_whole(line):
            return False
        whole -= len(line)
    shutil.copyfile(path, damaged(path))
    os.truncate(path, whole)
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


def _looks_whole(line: bytes) -> bool:
    """Whether a line may be an entry: whoever reads it will see, and to parse all of them twice takes twice as long."""
    return line.startswith(b"{") and line.endswith(b"}\n")


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
