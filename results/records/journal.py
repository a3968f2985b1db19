"""Optuna's journal file as it is read here: each line once, and what a trial was set piece by piece at once.

The format is that of Optuna 5.0.0; tests/unit/test_driver_journal.py holds that Optuna reads the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, _storage
from optuna.trial import TrialState
from pydantic_core import from_json

# Each trial has the ranges of its parameters as JSON: to parse them is half of the time that Optuna takes to open a
# journal, and a quarter of a trial's memory. Nothing changes a distribution, and trials of a study may share theirs.
_storage.json_to_distribution = lru_cache(_storage.json_to_distribution)  # type: ignore[attr-defined]  # an import

Entry = dict[str, Any]
"""A line of a journal: an operation of Optuna's."""


class Operation(IntEnum):
    """`op_code` of an entry."""

    CREATE_STUDY = 0
    DELETE_STUDY = 1
    CREATE_TRIAL = 4
    SET_TRIAL_PARAM = 5
    SET_TRIAL_STATE_VALUES = 6
    SET_TRIAL_INTERMEDIATE_VALUE = 7
    SET_TRIAL_USER_ATTR = 8
    SET_TRIAL_SYSTEM_ATTR = 9


PARTS = ("distributions", "params", "user_attrs", "system_attrs", "intermediate_values")
"""Of an entry that creates a trial: mappings, which later entries add to."""
ENDED = {state.value for state in TrialState if state.is_finished()}


class JournalReader(JournalFileBackend):
    """A journal opened for reading, by one storage: notes, deletions and the like are refused."""

    def __init__(self, path: Path, lock: JournalFileOpenLock | None = None):
        super().__init__(str(path), lock)
        self.path = path
        self.offset = 0
        """Bytes that were read."""

    def read_logs(self, log_number_from: int) -> Iterator[Entry]:  # type: ignore[override]  # reads on demand
        """Yield the entries since the last one; from the start, `folded`, if none is known.

        An end that is not whole yet is left for the next time. Raises `ValueError` for damage before it.
        """
        if log_number_from > 0:
            yield from self._entries()
            return
        self.offset = 0
        try:
            entries = folded(self._entries())
        except SeveralStudies:
            self.offset = 0
            yield from self._entries()
            return
        entries.reverse()
        while entries:
            yield entries.pop()  # and let go of it: they are many

    def _entries(self) -> Iterator[Entry]:
        damaged = None
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if damaged is not None:
                    raise damaged
                try:
                    entry = _parsed(line) if line.endswith(b"\n") else None
                except ValueError as error:
                    damaged = error
                    continue
                if entry is None:
                    return
                self.offset += len(line)
                yield entry

    def append_logs(self, logs: list[Entry]) -> None:
        """Refuse."""
        raise PermissionError("only a study's driver writes its journal")


def _parsed(line: bytes) -> Entry:
    try:
        return from_json(line)  # five times as fast
    except ValueError:
        return json.loads(line)  # and this one takes more, half of a surrogate pair for one


class SeveralStudies(ValueError):
    """A journal of more than one study, or of one that was deleted: its trials are not numbered as they come."""


def folded(entries: Iterable[Entry], first: int = 0) -> list[Entry]:
    """The same operations in fewer entries, where there were `first` trials before.

    What is set of a trial that is created among them is part of its creation. Raises `SeveralStudies` if they are not
    of one study, the first.
    """
    found: list[Entry] = []
    created: dict[int, Entry] = {}
    name = None
    for entry in entries:
        kind, trial = entry["op_code"], entry.get("trial_id")
        if kind == Operation.CREATE_STUDY:  # a study that is opened again is said to be created again
            name = name or entry["study_name"]
        if entry.get("study_name", name) != name or kind == Operation.DELETE_STUDY or entry.get("study_id", 0) != 0:
            raise SeveralStudies
        if kind == Operation.CREATE_TRIAL:
            parts = {name: dict(entry.get(name, {})) for name in PARTS}
            created[first] = {"state": TrialState.RUNNING.value, **entry, **parts}
            found.append(created[first])
            first += 1
        elif trial not in created or not _set(created[trial], entry):
            created.pop(trial, None)  # type: ignore[arg-type]
            found.append(entry)
    return found


def _set(trial: Entry, entry: Entry) -> bool:
    """Do to a trial that is being created what an entry does; False if that is left to Optuna."""
    kind = entry["op_code"]
    if trial["state"] in ENDED:  # nothing is set any more
        return True
    if kind == Operation.SET_TRIAL_PARAM:
        name = entry["param_name"]
        trial["params"][name] = entry["param_value_internal"]
        trial["distributions"][name] = entry["distribution"]
    elif kind == Operation.SET_TRIAL_USER_ATTR:
        trial["user_attrs"].update(entry["user_attr"])
    elif kind == Operation.SET_TRIAL_SYSTEM_ATTR:
        trial["system_attrs"].update(entry["system_attr"])
    elif kind == Operation.SET_TRIAL_INTERMEDIATE_VALUE:
        trial["intermediate_values"][entry["step"]] = entry["intermediate_value"]
    elif kind == Operation.SET_TRIAL_STATE_VALUES:
        if entry["state"] != trial["state"] or entry["state"] != TrialState.RUNNING.value:
            trial["state"] = entry["state"]
            trial |= {name: entry[name] for name in ("datetime_start", "datetime_complete") if name in entry}
            if entry["values"] is not None:
                trial |= {"value": None, "values": entry["values"]}
    else:
        return False
    return True
