"""Optuna's journal file as it is read here: each line once, as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

Entry = dict[str, Any]
"""A line of a journal: an operation of Optuna's."""


class JournalReader(JournalFileBackend):
    """A journal opened for reading, by one storage: notes, deletions and the like are refused."""

    def __init__(self, path: Path, lock: JournalFileOpenLock | None = None):
        super().__init__(str(path), lock)
        self.path = path
        self.offset = 0
        """Bytes that were read."""

    def read_logs(self, log_number_from: int) -> Iterator[Entry]:  # type: ignore[override]  # reads on demand
        """Yield the entries since the last one; from the start if none is known.

        An end that is not whole yet is left for the next time. Raises `ValueError` for damage before it.
        """
        if log_number_from == 0:
            self.offset = 0
        damaged = None
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if damaged is not None:
                    raise damaged
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
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
