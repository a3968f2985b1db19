"""Small datasets with correlated categories, for tests of everything from the model upwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_table(path: Path, rows: int = 300, sizes: tuple[int, ...] = (8, 4, 12), seed: int = 0) -> Path:
    """Write an .npz table whose columns fall into correlated groups of the given sizes, on differing scales."""
    rng = np.random.default_rng(seed)
    columns, names = [], []
    for group, size in enumerate(sizes):
        factors = rng.normal(size=(rows, max(2, size // 4)))
        mixed = factors @ rng.normal(size=(factors.shape[1], size))
        bent = mixed + 0.3 * np.tanh(2 * mixed) + 0.2 * rng.normal(size=(rows, size))
        columns.append(bent * 10.0**group + group)
        names += [f"summary::group{group}_{index}" for index in range(size)]
    np.savez(path, features=np.concatenate(columns, axis=1).astype(np.float32), feature_names=np.array(names))
    return path
