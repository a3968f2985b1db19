"""Prepared features in Spinlock's HDF5 layout, encoded and cleaned already, so that every column passes as it is."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import h5py

from spinlock_dist.atomic_files import replacing
from spinlock_dist.outputs import OutputKind
from spinlock_dist.prepare import PreparedData
from spinlock_dist.simulator.layout import CHUNK_ROWS, COMPRESSION

WRITER = "results.export"


def _is_ours(path: Path) -> bool:
    with suppress(OSError), h5py.File(path) as file:
        return bool(file.attrs.get("written_by") == WRITER)
    return False


FEATURES = OutputKind(name="features that an export wrote", is_ours=_is_ours)


def family_path(family: str) -> str:
    """Where Spinlock looks for a family: all but `temporal` are said to be aggregated, whatever they are."""
    return f"features/{family}" if family == "temporal" else f"features/{family}/aggregated"


def write_features(path: Path, data: PreparedData) -> None:
    """Write all rows of `data` as cleaning left them, in raw units, float64, one array `[N, D]` a family.

    Row i is row i of the dataset it was prepared from. An attribute `feature_names` of each array names its columns.
    """
    columns: dict[str, list[int]] = {}
    for column, family in enumerate(data.families):
        columns.setdefault(family, []).append(column)
    with replacing(path) as draft, h5py.File(draft, "w") as file:
        file.attrs["written_by"] = WRITER
        file.attrs["fingerprint"] = data.fingerprint
        for family, own in columns.items():
            chunks = (min(CHUNK_ROWS, len(data.values)), len(own))
            array = file.create_dataset(
                f"{family_path(family)}/features", (len(data.values), len(own)), "f8", chunks=chunks, **COMPRESSION
            )
            names = [data.feature_names[column].removeprefix(f"{family}::") for column in own]
            file[family_path(family)].attrs["feature_names"] = json.dumps(names)
            file[family_path(family)].attrs["num_features"] = len(own)
            for start in range(0, len(data.values), 64 * CHUNK_ROWS):
                rows = slice(start, start + 64 * CHUNK_ROWS)
                array[rows] = data.pipeline.invert(data.values[rows])[:, own]
        file.attrs["complete"] = True
