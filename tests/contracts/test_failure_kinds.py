"""The kinds of failure that the page names are those that have a rule."""

from __future__ import annotations

import re
from pathlib import Path

from results.analysis.trial_summary import COLLAPSED
from study.worker.retry_rules import RETRY_RULES


def test_the_page_on_failures_names_every_kind(repository: Path) -> None:
    table = (repository / "docs" / "faults.md").read_text().split("|---|---|---|\n")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == {*RETRY_RULES, COLLAPSED}


def test_every_fault_of_the_docs_is_held_by_tests_that_are_there(repository: Path) -> None:
    [table] = re.findall(r"\| held by \|\n(.*?)\n\n", (repository / "docs" / "faults.md").read_text(), re.DOTALL)
    rows = table.splitlines()[1:]
    named = [name for row in rows for name in row.split("|")[3].strip().split(", ")]
    there = {path.stem for path in (repository / "tests").rglob("test_*.py")}
    assert len(rows) >= 20 and set(named) <= there
