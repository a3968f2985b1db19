"""docs/tutorial.md from its first line to its last, in a folder of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from spinlock_dist.checkpoint import load_checkpoint
from tests.newcomer import blocks, typed

KEPT = ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED", "RAY_USAGE_STATS_REPORT_URL")


def test_the_tutorial_runs_as_it_is_printed(repository: Path, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)  # the loops are compiled there; the wheel has tests of its own
    (tmp_path / "ray_bootstrap_config.yaml").write_text("{}\n")
    text = (repository / "docs" / "tutorial.md").read_text(encoding="utf-8")
    said = {}
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        (tmp_path / "block.py").write_text(block)
        for line in {"python": ["python block.py"], "": block.splitlines()}.get(kind, []):
            done = typed(tmp_path, line, *KEPT, timeout=900)
            assert done.returncode == 0, f"{line}: {done.stderr}"
            assert "Traceback" not in done.stderr
            said[line] = done.stdout

    columns = blocks(text, "text")[0].split()
    assert said["spinlock-dist data tumours.csv"].split()[-len(columns) :] == columns
    study = read_study(StudyFolder(tmp_path / "runs" / "tumours"))
    assert not study.problems
    tokens = pd.read_parquet(tmp_path / "tokens.parquet")
    assert tokens.shape == (569, 1 + (load_checkpoint(tmp_path / "tokenizer").plan.codes > 1).sum())
    assert pd.read_csv(tmp_path / "rebuilt.csv").shape == (569, 28)
