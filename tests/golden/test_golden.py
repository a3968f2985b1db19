"""Figures of three small trainings that no refactoring should move. Rewrite with: python -m tests.golden.test_golden"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from spinlock_dist.config import TrialConfig
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial
from tests.synthetic import write_table

FIGURES = Path(__file__).with_name("cpu.json")
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "one codebook a level": {"compression.max_codebooks": 1},
    "finite scalars": {"quantizer.kind": "fsq"},
    "feedback": {"compression.strategy": "feedback"},
    "parallel, shared, random": {
        "model.levels": "parallel",
        "model.decoder": "shared",
        "model.initialization": "random",
        "compression.capacity": "latent",
        "compression.rule": "spinlock",
    },
}


def figures(arm: str, folder: Path) -> dict[str, float]:
    """Train one arm and return its figures."""
    config = TrialConfig(
        prepare={
            "dataset": str(write_table(folder / "table.npz")),
            "categories": {"count": 3},
            "split": {"folds": 1, "validation": 0.15, "test": 0.15},
        },
        training={"epochs": 6, "batch_size": 64, "device": "cpu"},
        model={"hidden": 8},
    ).with_overrides(ARMS[arm])
    return run_trial(config, prepare(config.prepare)).validation.scalars()


@pytest.mark.parametrize("arm", ARMS)
def test_figures_did_not_move(arm: str, tmp_path: Path) -> None:
    expected = json.loads(FIGURES.read_text())[arm]
    # One percent: processors differ in the last bits of a float32 sum, and a code may flip on a tie.
    assert figures(arm, tmp_path) == pytest.approx(expected, rel=1e-2, abs=1e-6)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        FIGURES.write_text(json.dumps({arm: figures(arm, Path(name)) for arm in ARMS}, indent=1) + "\n")
