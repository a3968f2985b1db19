"""The kinds of failure that the page names are those that have a rule."""

from __future__ import annotations

import re
from pathlib import Path

from results.analysis.trial_summary import COLLAPSED
from study.worker.retry_rules import RETRY_RULES


def test_the_page_on_failures_names_every_kind(repository: Path) -> None:
    table = (repository / "docs" / "faults.md").read_text().split("|---|---|---|\n")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == {*RETRY_RULES, COLLAPSED}
