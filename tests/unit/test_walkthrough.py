"""The walk-through in docs: what it reads it can read of any study, and what it shows is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from tests.synthetic_study import build_study

RUNS = "runs-a-study"


@pytest.fixture(scope="module")
def notebook(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "docs" / "walkthrough.ipynb").read_text(encoding="utf-8"))


def cells(notebook: dict[str, Any], *, run: bool) -> list[str]:
    """The code of the cells that run a study, or of the others."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in code if (RUNS in cell["metadata"].get("tags", [])) is run]


def test_what_is_read_can_be_read_of_any_study(notebook, tmp_path, monkeypatch) -> None:
    build_study(tmp_path / "runs", "walkthrough", 20)
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for cell in cells(notebook, run=False):
        exec(compile(cell, "walkthrough.ipynb", "exec"), space)
    assert isinstance(space["study"].figures["categories"], go.Figure)
    assert set(space["done"]["state"]) == {"complete"} != set(space["search"]["state"])
    assert not space["both"].isna().to_numpy().any()
    assert not space["ranked"].empty and space["rows"]


def test_it_shows_how_a_study_is_run_and_what_came_of_everything(notebook) -> None:
    [run] = cells(notebook, run=True)
    assert "run(config)" in run and 'name="walkthrough"' in run
    assert all(cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    shown = json.dumps([cell.get("outputs") for cell in notebook["cells"]])
    assert "12/12  trial " in shown and '"image/png"' in shown
    assert "kaleido" not in json.dumps(notebook).lower()
