"""What a dataset says of its rows beside their features: grid, evolution policy, kind of operator and the like."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from spinlock_dist.data.hdf5 import opened_hdf5
from spinlock_dist.data.hdf5_links import node_at

METADATA = "metadata"
MOST_LABELS = 64
"""Of one kind; where more differ they are measurements rather than labels."""


def read_labels(path: Path, rows: int) -> dict[str, np.ndarray]:
    """For the first `rows` rows their labels `[rows]`, as text, by the name of the dataset under `/metadata`.

    Those of an HDF5 file that say something of every row. Raises `DataError` for a file that is none, or is damaged.
    """
    with opened_hdf5(path) as file:
        group = node_at(file, METADATA, path, linked=None)
        names = list(group) if isinstance(group, h5py.Group) else []
        found = {name: _labels(node_at(group, name, path, linked=None), rows) for name in names}
    return {name: labels for name, labels in found.items() if labels is not None}


def _labels(dataset: object, rows: int) -> np.ndarray | None:
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or len(dataset) < rows:
        return None
    if dataset.dtype.kind not in "SOUiub":
        return None
    values = dataset[:rows]
    texts = [value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value) for value in values]
    labels = np.array(texts)
    return labels if len(np.unique(labels)) <= MOST_LABELS else None
