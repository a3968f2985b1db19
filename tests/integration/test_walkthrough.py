"""The walk-through in docs, in a kernel of Jupyter as a user has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def test_the_walk_through_runs_in_jupyter(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel
    notebook = nbformat.read(repository / "docs" / "walkthrough.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs = []
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=folder).execute()
    assert (tmp_path / "runs" / "walkthrough" / "report.html").exists()
    progress = json.dumps(code[0].outputs)
    for line in ("preparing simulated operators", "baseline: uniform ratios", "12/12", "verification: "):
        assert line in progress, f"what the study does is shown below the cell: {line}"
    assert all(len(json.dumps(cell.outputs)) < 100_000 for cell in code[1:]), "no output is out of proportion"
    kinds = [kind for cell in code for output in cell.outputs for kind in output.get("data", {})]
    assert kinds.count("application/vnd.plotly.v1+json") == 1
