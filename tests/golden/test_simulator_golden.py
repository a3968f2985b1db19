"""Features of twenty operators, recorded at commit fa24ce6, that no faster simulation may move."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spinlock_dist.config import SimulatorConfig
from spinlock_dist.simulator.extract import simulate_block

RECORDED = Path(__file__).with_name("simulator.npz")
TOLERANCE = 1e-4
"""In units of a feature's spread over operators, in which models see it, or of its size."""


def test_features_did_not_move() -> None:
    block = simulate_block(SimulatorConfig(steps=32, seed=5), 0)
    with np.load(RECORDED) as recorded:
        for family, values in block.families.items():
            found, wanted = (values if values.ndim == 2 else values[:, 15])[:20], recorded[family]
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
            unit = np.maximum(np.abs(wanted), np.nanstd(wanted, axis=0))
            error = np.abs(found - wanted) / np.where(unit > 0, unit, 1)
            names = [name for group in block.registries[family].values() for name in group]
            moved = {
                name: worst for name, worst in zip(names, np.nanmax(error, axis=0), strict=True) if worst > TOLERANCE
            }
            assert not moved, family
