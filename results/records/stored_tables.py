"""trials.parquet and curves.parquet, read back as records; `results.analysis.tables` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from spinlock_dist.atomic_files import require_regular

if TYPE_CHECKING:
    import pyarrow

TRIAL = ("phase", "arm", "number")
"""Columns that name a trial in every table."""
WRITTEN = "written"
"""Attribute of the tables on disk: `how_much_written` at the time they were written."""
OWNER = "belongs_to"
"""Attribute of the tables on disk: the identity of their study."""


def how_much_written(folder: StudyFolder) -> int:
    """A number that grows as a study runs: bytes of its journals, or finished trials in another storage."""
    return sum(_written(search) for search in folder.searches.values())


def _written(search: StudyFolder) -> int:
    if not search.elsewhere.exists():
        return search.journal.stat().st_size
    from results.records.optuna_trials import finished_trials, open_search

    return len(finished_trials(open_search(search)))


def read_tables(folder: StudyFolder, details: bool = True) -> tuple[list[TrialRecord], bool]:
    """The records in the tables, and whether they are up to date.

    Without `details` curves and codebooks, which make up most of the file, are empty. Raises `OSError` or `ValueError`
    if a table that is read is missing or damaged.
    """
    require_regular(folder.trials)
    from pyarrow import parquet  # not pandas: a command that shows ten rows need not wait for it

    try:
        table = parquet.ParquetFile(folder.trials).read(columns=["record", *["codebooks"] * details])
        records = [_record(row) for row in table.to_pylist()]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a table of this version: {error}") from None
    attributes = _attributes(table)
    if attributes.get(OWNER, folder.identity) != folder.identity:
        raise ValueError("they belong to another study")
    fresh = attributes.get(WRITTEN) == how_much_written(folder)
    if not details:
        return records, fresh
    require_regular(folder.curves)
    reports: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for row in parquet.ParquetFile(folder.curves).read().to_pylist():
        report = {name: value for name, value in row.items() if name not in TRIAL and value is not None}
        reports.setdefault(tuple(row[name] for name in TRIAL), []).append(report)
    return [replace(each, curve=reports.get((each.phase, each.arm, each.number), [])) for each in records], fresh


def _record(row: Mapping[str, str]) -> TrialRecord:
    content = json.loads(row["record"])
    for part, books in json.loads(row.get("codebooks", "{}")).items():
        content[part]["codebooks"] = books
    return TrialRecord.from_json(content)


def _attributes(table: pyarrow.Table) -> dict[str, Any]:
    """What pandas keeps as `DataFrame.attrs`."""
    return json.loads((table.schema.metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
