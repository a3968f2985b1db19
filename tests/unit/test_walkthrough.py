"""The walk-through in docs runs as it stands, on any study."""

from __future__ import annotations

import json
from pathlib import Path

import plotly.graph_objects as go
import pytest

from tests.synthetic_study import build_study


def test_every_cell_of_the_walk_through_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_study(tmp_path / "runs", "walkthrough", 20)
    monkeypatch.chdir(tmp_path)
    shown: list[str] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure, *_, **__: shown.append(figure.to_json()))
    notebook = json.loads((repository / "docs" / "walkthrough.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    space: dict[str, object] = {}
    for cell in cells:
        exec(compile(cell, "walkthrough.ipynb", "exec"), space)
    assert len(shown) == 1
    assert all(cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
