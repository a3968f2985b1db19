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
from spinlock_dist.data.hdf5_links import node_at
from spinlock_dist.data.hdf5_presence import (
    require_complete,
    require_memory_for,
    require_unpacked,
    require_written,
    stands_for_missing,
)
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import FeatureTable, require_families, require_same_rows
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import really, require_file

FAMILY_ORDER = ("initial", "summary", "temporal", "architecture")
# Parameters of the operator rather than observations of it: read only on demand.
ON_DEMAND = ("architecture",)
FIELDS = "inputs/fields"
NAMES = "feature_names"
# What Spinlock's extraction computes over realizations when a file does not say.
DEFAULT_AGGREGATIONS = ("mean", "std", "cv")


@dataclass(frozen=True, kw_only=True)
class Hdf5Source:
    """What to read of an HDF5 file: the first `max_samples` rows of the given families, of all but architecture when
    `families` is None.

    Those that the file `may_lack` are left out if it does. Other files are read only if they may be `linked`.
    """

    path: Path
    families: Collection[str] | None
    max_samples: int | None
    may_lack: Collection[str] = ()
    linked: bool = False

    def whole(self) -> FeatureTable:
        """Read all rows. Initial fields are not read before somebody looks at them.

        Raises `DataError` for a file that is not HDF5, is damaged, has rows that were never written, needs more memory
        than there is, or lacks features or a family asked for.
        """
        with opened_hdf5(self.path) as file:
            return self._table(file, self._chosen(file), slice(0, self.max_samples))

    def rows(self) -> int:
        """How many there are: of initial fields, where no family is there that is asked for.

        Raises `DataError` as `whole` does, if there are none, and if families have different numbers of them.
        """
        with opened_hdf5(self.path) as file:
            chosen = self._chosen(file)
            counts = {name: len(dataset) for name, dataset in chosen.items() if dataset.shape}
            fields = None if chosen else _fields(file, self.path, slice(None), self.linked)
        require_same_rows(counts, str(self.path))
        there = min(counts.values(), default=0) if fields is None else len(fields)
        if not there:
            raise DataError(f"{self.path}: there are no rows of features; add some")
        return there if self.max_samples is None else min(there, self.max_samples)

    def batches(self, size: int) -> Iterator[FeatureTable]:
        """Read `size` rows at a time, and at the end those that are left. Raises `DataError` as `whole` does."""
        rows = self.rows()
        with opened_hdf5(self.path) as file:
            chosen = self._chosen(file)
            for start in range(0, rows, size):
                yield self._table(file, chosen, slice(start, min(start + size, rows)))

    def _chosen(self, file: h5py.File) -> dict[str, h5py.Dataset]:
        require_complete(file, self.path)
        datasets = _family_datasets(file, self.path, self.linked)
        on_its_own = [name for name in datasets if name not in ON_DEMAND]
        wanted = on_its_own if self.families is None else self.families
        require_families([name for name in wanted if name not in self.may_lack], datasets, str(self.path))
        return {name: dataset for name, dataset in datasets.items() if name in wanted}

    def _table(self, file: h5py.File, chosen: dict[str, h5py.Dataset], rows: slice) -> FeatureTable:
        for dataset in chosen.values():
            require_memory_for(dataset, self.path, None if rows.stop is None else rows.stop - rows.start)
            require_written(dataset, self.path, rows.stop, self.linked)
        return FeatureTable(
            columns={name: _read_rows(dataset, self.path, rows) for name, dataset in chosen.items()},
            names={name: _names(file, name, dataset, self.path) for name, dataset in chosen.items()},
            source=str(self.path),
            fields=_fields(file, self.path, rows, self.linked),
        )


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file. Raises `DataError` for one that is none, and what HDF5 raises in the block as one."""
    require_file(path, DataError)
    if not h5py.is_hdf5(path):
        kind = f"it is {really(path)}" if really(path) else "the HDF5 signature is missing"
        raise DataError(f"{path}: not an HDF5 file ({kind}); check the path or its suffix")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: more than fits in memory ({error}); read fewer rows (prepare.max_samples)") from None
    except Exception as error:  # damage surfaces in any layer: HDF5, h5py, numpy
        raise DataError(f"{path}: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    """What kept HDF5 from reading a file, and the way out, of what its message says."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if "unable to lock file" in reason or "already open for write" in reason:
        return (
            "is open for writing in another process; wait until it has closed the file, or, if no process has, run "
            f"h5clear -s on a copy ({reason})"
        )
    if "too many links" in reason:
        return "a link in it leads in a circle; remove it"
    return f"damaged or truncated HDF5 file; copy or generate it again ({reason})"


def _family_datasets(file: h5py.File, path: Path, linked: bool) -> dict[str, h5py.Dataset]:
    features = node_at(file, "features", path, linked)
    if features is None:
        raise DataError(f"{path}: no /features in this HDF5 file; it has {', '.join(map(_text, file)) or 'nothing'}")
    if isinstance(features, h5py.Dataset):
        return {"features": features}
    names = list(features) if isinstance(features, h5py.Group) else []
    if any(isinstance(name, bytes) for name in names):
        raise DataError(f"{path}: the name of a family in /features is not UTF-8; rename it")
    families = {name: _family_dataset(features, name, path, linked) for name in names}
    found = {name: dataset for name, dataset in families.items() if dataset is not None}
    if not found:
        raise DataError(
            f"{path}: /features holds no feature array (FAMILY/features or FAMILY/aggregated/features); "
            f"it has {', '.join(map(_text, names)) or 'nothing'}"
        )
    rank = {name: position for position, name in enumerate(FAMILY_ORDER)}
    return {name: found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))}


def _family_dataset(features: h5py.Group, name: str, path: Path, linked: bool) -> h5py.Dataset | None:
    for place in (name, f"{name}/aggregated/features", f"{name}/features"):
        node = node_at(features, place, path, linked)
        if isinstance(node, h5py.Dataset):
            return node
    return None


def _read_rows(dataset: h5py.Dataset, path: Path, rows: slice) -> np.ndarray:
    if dataset.ndim not in (2, 3) or dataset.dtype.kind not in "fiub":
        shape = list(dataset.shape)
        raise DataError(f"{path}: {dataset.name} must hold numbers [N, D] or [N, T, D], is {dataset.dtype} {shape}")
    require_unpacked(dataset, path)
    values = dataset[rows]
    missing = stands_for_missing(dataset, path, values)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        values = values.astype(np.float32, copy=False)
    values[missing] = np.nan
    return values


@dataclass(frozen=True)
class StoredArray:
    """A dataset in an HDF5 file that is opened for every read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    linked: bool = False
    """Whether it may lie in another file."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Read the given rows; they ascend and differ. Raises `DataError` if they cannot be read or are not there."""
        first, last = int(rows[0]), int(rows[-1])
        with opened_hdf5(self.path) as file:
            dataset = node_at(file, self.name, self.path, self.linked)
            assert isinstance(dataset, h5py.Dataset)
            require_written(dataset, self.path, last + 1, self.linked)
            # One slab is far quicker than a list of rows, unless it is mostly rows that nobody asked for.
            if last - first < 4 * len(rows):
                return dataset[first : last + 1][rows - first]
            return dataset[rows]


def _fields(file: h5py.File, path: Path, rows: slice, linked: bool) -> Fields | None:
    """The initial fields, unread; None if there are none of the shape `[N, C, H, W]`."""
    dataset = node_at(file, FIELDS, path, linked)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        return None
    if dataset.ndim != 4 or dataset.dtype.kind not in "fiub":
        return None
    return Fields(StoredArray(path, FIELDS, dataset.shape, linked), np.arange(len(dataset))[rows])


def _names(file: h5py.File, family: str, dataset: h5py.Dataset, path: Path) -> tuple[str, ...]:
    """The most specific names that the file supports for a family's columns.

    Raises `DataError` if it lists names, but as many as there are not columns.
    """
    count = dataset.shape[-1]
    listed = _listed_names(file, dataset, path)
    if listed is not None:
        if len(listed) != count:
            raise DataError(
                f"{path}: {len(listed)} feature_names for the {count} columns of {dataset.name}; name every column once"
            )
        return listed
    own = _registry(dataset)
    summary = node_at(file, "features/summary", path, linked=True)  # links on the way were looked at with the families
    names = registered_names(count, own)
    if names is None and family == "summary":
        names = aggregated_names(count, own, _aggregations(summary))
    if names is None and family == "temporal" and summary is not None:
        names = per_step_names(count, _registry(summary))
    return names or positional_names(count)


def _listed_names(file: h5py.File, dataset: h5py.Dataset, path: Path) -> tuple[str, ...] | None:
    """The names in an attribute `feature_names` of the array, or of its group, or in a dataset of that name beside it.

    A list, or one text: JSON, or names separated by commas or line ends. None if there are none.
    """
    group = dataset.parent
    beside = None if group.name == "/" else node_at(group, NAMES, path, linked=None)
    found: tuple[Any, ...] = (dataset.attrs.get(NAMES), group.attrs.get(NAMES) if group.name != "/" else None, beside)
    for listed in found:
        if isinstance(listed, h5py.Dataset):
            listed = listed[()] if listed.shape is not None else []
        if listed is None:
            continue
        if isinstance(listed, h5py.Group | h5py.Datatype):
            raise DataError(f"{path}: {listed.name} is no list of names; write one, or remove it")
        if not np.ndim(listed):
            listed = _names_in_text(_text(listed), path)
        return tuple(_text(name) for name in np.ravel(np.asarray(listed, dtype=object)))
    return None


def _names_in_text(text: str, path: Path) -> list[str]:
    if text.lstrip().startswith("["):
        try:
            names = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}: {NAMES} begins as a JSON list and is none ({error})") from None
        if not all(isinstance(name, str) for name in names):
            raise DataError(f"{path}: {NAMES} is a JSON list of something else than names")
        return names
    separator = "\n" if "\n" in text.strip() else ","
    return [name.strip() for name in text.strip().split(separator)]


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
    except (ValueError, TypeError, RecursionError):
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
