"""Faults, injected on purpose. `make test-faults` runs all and prints what became of each; `make test` a short form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from results.records.trial_record import TrialRecord
from tests.toy import write_dataset

if not os.environ.get("FAULTS"):
    collect_ignore = ["test_disk.py", "test_driver.py", "test_memory.py", "test_surroundings.py"]  # minutes


@dataclass(frozen=True)
class Row:
    """What became of one fault. Lost: trials without an outcome. Repeated: trials with more than one attempt."""

    fault: str
    when: str
    survived: str
    lost: int
    repeated: int


class Ledger:
    """Collects a row a fault."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def enter(
        self,
        fault: str,
        when: str,
        survived: str,
        records: Sequence[TrialRecord],
        expected: int,
        repeated: Sequence[TrialRecord] | None = None,
    ) -> None:
        """Count the trials of a study that was to have `expected`, and hold that none was lost.

        `repeated`: the records to count repetitions in, if the study met other faults as well.
        """
        lost = expected - len({record.number for record in records})
        again = sum(len(record.attempts) > 1 for record in (records if repeated is None else repeated))
        self.rows.append(Row(fault, when, survived, lost, again))
        assert lost == 0
        assert len(records) == expected  # each exactly once

    def table(self) -> list[str]:
        """Return the rows as text."""
        heads = ("fault", "injected", "survived", "trials lost", "trials repeated")
        cells = [heads, *((row.fault, row.when, row.survived, str(row.lost), str(row.repeated)) for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


LEDGER = Ledger()


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    return LEDGER


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "table.parquet")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if LEDGER.rows:
        terminalreporter.write_sep("=", "faults")
        for line in LEDGER.table():
            terminalreporter.write_line(line)
