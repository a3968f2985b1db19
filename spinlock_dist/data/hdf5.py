"""Reader of Spinlock's HDF5 layout: its own files and those of the built-in simulator."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spinlock_dist.data.column_names import (
    Registry,
    aggregated_names,
    per_step_names,
    positional_names,
    registered_names,
)
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import FeatureTable, require_families
from spinlock_dist.errors import DataError

FAMILY_ORDER = ("initial", "summary", "temporal", "architecture")
# Parameters of the operator rather than observations of it: read only on demand.
ON_DEMAND = ("architecture",)
FIELDS = "inputs/fields"
# What Spinlock's extraction computes over realizations when a file does not say.
DEFAULT_AGGREGATIONS = ("mean", "std", "cv")


def read_hdf5(
    path: Path, families: Collection[str] | None, max_samples: int | None, may_lack: Collection[str] = ()
) -> FeatureTable:
    """Read the first `max_samples` rows of the given families; of all but architecture when `families` is None.

    Those that the file `may_lack` are left out if it does. Initial fields are not read before somebody looks at them.
    Raises `DataError` for a file that is not HDF5, is damaged, or lacks features or a family asked for.
    """
    with _opened(path) as file:
        datasets = _family_datasets(file, path)
        wanted = [name for name in datasets if name not in ON_DEMAND] if families is None else families
        require_families([name for name in wanted if name not in may_lack], datasets, str(path))
        chosen = [name for name in datasets if name in wanted]
        return FeatureTable(
            columns={name: _read_rows(datasets[name], path, max_samples) for name in chosen},
            names={name: _names(file, name, datasets[name]) for name in chosen},
            source=str(path),
            fields=_fields(file, path, max_samples),
        )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not h5py.is_hdf5(path):
        raise DataError(f"{path}: not an HDF5 file (the HDF5 signature is missing); check the path or its suffix")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged or truncated HDF5 file; copy or generate it again ({reason})") from None


def _family_datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    features = file.get("features")
    if features is None:
        raise DataError(f"{path}: no /features in this HDF5 file; it has {', '.join(map(_text, file)) or 'nothing'}")
    if isinstance(features, h5py.Dataset):
        return {"features": features}
    found = {name: dataset for name in features if (dataset := _family_dataset(features[name])) is not None}
    if not found:
        raise DataError(
            f"{path}: /features holds no feature array (FAMILY/features or FAMILY/aggregated/features); "
            f"it has {', '.join(map(_text, features)) or 'nothing'}"
        )
    rank = {name: position for position, name in enumerate(FAMILY_ORDER)}
    return {name: found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))}


def _family_dataset(family: h5py.Group | h5py.Dataset) -> h5py.Dataset | None:
    if isinstance(family, h5py.Dataset):
        return family
    places = (family.get(place) for place in ("aggregated/features", "features"))
    return next((place for place in places if isinstance(place, h5py.Dataset)), None)


def _read_rows(dataset: h5py.Dataset, path: Path, max_samples: int | None) -> np.ndarray:
    if dataset.ndim not in (2, 3) or dataset.dtype.kind not in "fiub":
        shape = list(dataset.shape)
        raise DataError(f"{path}: {dataset.name} must hold numbers [N, D] or [N, T, D], is {dataset.dtype} {shape}")
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        return dataset[:max_samples].astype(np.float32, copy=False)


@dataclass(frozen=True)
class StoredArray:
    """A dataset in an HDF5 file that is opened for every read."""

    path: Path
    name: str
    shape: tuple[int, ...]

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Read the given rows; they ascend and differ."""
        first, last = int(rows[0]), int(rows[-1])
        with _opened(self.path) as file:
            dataset = file[self.name]
            # One slab is far quicker than a list of rows, unless it is mostly rows that nobody asked for.
            if last - first < 4 * len(rows):
                return dataset[first : last + 1][rows - first]
            return dataset[rows]


def _fields(file: h5py.File, path: Path, max_samples: int | None) -> Fields | None:
    """The initial fields, unread; None if there are none of the shape `[N, C, H, W]`."""
    dataset = file.get(FIELDS)
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 4 or dataset.dtype.kind not in "fiub":
        return None
    return Fields(StoredArray(path, FIELDS, dataset.shape), np.arange(len(dataset))[:max_samples])


def _names(file: h5py.File, family: str, dataset: h5py.Dataset) -> tuple[str, ...]:
    """The most specific names that the file supports for a family's columns."""
    count = dataset.shape[-1]
    listed = _listed_names(dataset)
    if listed is not None and len(listed) == count:
        return listed
    own = _registry(dataset)
    summary = _registry(file["features/summary"]) if "features/summary" in file else {}
    names = registered_names(count, own)
    if names is None and family == "summary":
        names = aggregated_names(count, own, _aggregations(file["features/summary"]))
    if names is None and family == "temporal":
        names = per_step_names(count, summary)
    return names or positional_names(count)


def _listed_names(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    listed = dataset.attrs.get("feature_names")
    return None if listed is None else tuple(_text(name) for name in np.atleast_1d(listed))


def _registry(node: h5py.Group | h5py.Dataset) -> Registry:
    """The registry at `node` or the nearest group above it; {} if there is none or it is not readable."""
    while "feature_registry" not in node.attrs:
        if node.name == "/features" or node.name == "/":
            return {}
        node = node.parent
    registry = _json_attribute(node, "feature_registry")
    groups = registry.values() if isinstance(registry, dict) else [None]
    is_sound = all(isinstance(group, dict) and all(type(c) is int for c in group.values()) for group in groups)
    return registry if is_sound else {}


def _aggregations(summary: h5py.Group | h5py.Dataset) -> tuple[str, ...]:
    config = _json_attribute(summary, "extraction_config")
    given = config.get("realization_aggregation") if isinstance(config, dict) else None
    return tuple(map(str, given)) if isinstance(given, list) else DEFAULT_AGGREGATIONS


def _json_attribute(node: h5py.Group | h5py.Dataset, name: str) -> Any:
    """A JSON attribute, or None: names are worth having, not worth failing for."""
    try:
        return json.loads(_text(node.attrs.get(name, "null")))
    except (ValueError, TypeError):
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
