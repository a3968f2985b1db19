"""Whether all of an HDF5 dataset was ever written: HDF5 reads what was not as zeros, without a word.

Legend: N rows, the first axis; D columns.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5s, h5z

from spinlock_dist.data.hdf5_links import allow, beside, node_at
from spinlock_dist.errors import DataError
from spinlock_dist.memory import require_memory

FILTERS = {305: "lzo", 307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp"}
FILTERS |= {32015: "zstd", 32017: "sz", 32022: "bitgroom", 32024: "sz3", 32026: "blosc2"}
"""Registered filters that HDF5 does not bring with it, by number (HDF Group's list of registered filters)."""
NOT_COMPLETE = ("", "false", "no", "0", "0.0", "nan", "partial", "incomplete", "none")
MISSING_ATTRIBUTES = ("_FillValue", "missing_value")
"""Attributes by which the CF conventions name the values that stand for missing ones."""
PACKING = {"scale_factor": 1.0, "add_offset": 0.0}
"""Attributes by which they say that values are packed, and what says that they are not."""


def require_complete(file: h5py.File, path: Path) -> None:
    """Raise `DataError` if whoever wrote the file says that it is not complete."""
    said = file.attrs.get("complete")
    if said is None or isinstance(said, h5py.Empty):
        return
    words = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in np.ravel(said)]
    if any(word.strip().lower() in NOT_COMPLETE for word in words):
        raise DataError(f"{path}: says of itself that it is not complete (attribute complete); generate it again")


def require_memory_for(dataset: h5py.Dataset, path: Path, rows: int | None) -> None:
    """Raise `DataError` with the size unless the first `rows` rows of a dataset fit in memory."""
    if dataset.shape is None:
        raise DataError(f"{path}: {dataset.name} is empty (a null dataspace): it was declared and never given data")
    count = int(np.prod((_rows(dataset, rows), *dataset.shape[1:]), dtype=object))
    require_memory(
        count * (dataset.dtype.itemsize + np.dtype(np.float32).itemsize),
        f"{path}: {dataset.name} {list(dataset.shape)} {dataset.dtype}",
        DataError,
        "read fewer rows (prepare.max_samples), or check what the file declares",
    )


def require_written(dataset: h5py.Dataset, path: Path, rows: int | None, linked: bool | None) -> None:
    """Raise `DataError` unless the first `rows` rows of a dataset, all if None, were written and can be unpacked."""
    _check_filters(dataset, path)
    _check_written(dataset, path, _rows(dataset, rows), linked, ())


def _rows(dataset: h5py.Dataset, rows: int | None) -> int:
    there = dataset.shape[0] if dataset.shape else 0
    return there if rows is None else min(rows, there)


def _check_written(dataset: h5py.Dataset, path: Path, rows: int, linked: bool | None, seen: tuple[Any, ...]) -> None:
    if not dataset.shape:
        return  # a single number is said not to be a table by whoever wanted one
    if dataset.is_virtual:
        _check_virtual(dataset, path, rows, linked, seen)
        return
    for name, offset, size in dataset.external or ():
        allow(path, dataset.name, beside(path, name), linked)
        wanted = offset + min(size, dataset.size * dataset.dtype.itemsize)
        if beside(path, name).stat().st_size < wanted:
            raise DataError(
                f"{beside(path, name)}: is shorter than the {wanted} bytes that {dataset.name} of {path} takes"
            )
    absent = unwritten_rows(dataset, rows)
    if len(absent):
        raise DataError(
            f"{path}: {dataset.name}: {len(absent)} of {rows} rows were never written (first: row {absent[0]}); HDF5 "
            "would read zeros. Write them, or read only the rows before (prepare.max_samples)"
        )


def unwritten_rows(dataset: h5py.Dataset, rows: int) -> np.ndarray:
    """The numbers of those of the first `rows` rows that lie, in part or whole, in storage never written."""
    if not dataset.size or rows == 0:
        return np.empty(0, np.int64)
    if dataset.chunks is None:
        never = dataset.external is None and dataset.id.get_storage_size() == 0
        return np.arange(rows if never else 0)
    across = [-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    if dataset.id.get_num_chunks() >= int(np.prod(across, dtype=object)):
        return np.empty(0, np.int64)
    starts: list[int] = []
    dataset.id.chunk_iter(lambda chunk: starts.append(chunk.chunk_offset[0]))
    length = dataset.chunks[0]
    bands = -(-rows // length)
    written = np.bincount(np.array(starts, np.int64) // length, minlength=bands)[:bands]
    lacking = np.flatnonzero(written < int(np.prod(across[1:], dtype=object)))
    found = (lacking[:, None] * length + np.arange(length)).ravel()
    return found[found < rows]


def _check_virtual(dataset: h5py.Dataset, path: Path, rows: int, linked: bool | None, seen: tuple[Any, ...]) -> None:
    """Raise `DataError` unless every row of a virtual dataset has a source, that is there and was written."""
    here = (str(path.resolve()), dataset.name)
    if here in seen:
        raise DataError(f"{path}: {dataset.name} is a virtual dataset made, in the end, of itself")
    covered = np.zeros((rows, *dataset.shape[1:]), dtype=bool)
    for source in dataset.virtual_sources():
        if "%b" in source.file_name or "%b" in source.dset_name:
            raise DataError(f"{path}: {dataset.name} names its sources by a pattern; copy them into one dataset")
        if source.file_name == ".":
            _check_source(dataset, dataset.file, path, source, linked, (*seen, here))
        else:
            other = beside(path, source.file_name)
            allow(path, dataset.name, other, linked)
            with h5py.File(other, "r") as file:
                _check_source(dataset, file, other, source, linked, (*seen, here))
        _cover(covered, source.vspace)
    absent = np.flatnonzero(~covered.reshape(rows, -1).all(axis=1))
    if len(absent):
        raise DataError(
            f"{path}: {dataset.name}: {len(absent)} of {rows} rows of this virtual dataset have no source (first: row "
            f"{absent[0]}); HDF5 would read zeros"
        )


def _check_source(
    dataset: h5py.Dataset, file: h5py.File, path: Path, source: Any, linked: bool | None, seen: tuple[Any, ...]
) -> None:
    found = node_at(file, source.dset_name, path, linked)
    if not isinstance(found, h5py.Dataset) or not found.shape:
        raise DataError(f"{path}: has no dataset {source.dset_name}, a source of the virtual {dataset.name}")
    if source.src_space.get_select_type() == h5s.SEL_ALL:
        is_short = found.size < source.vspace.get_select_npoints()
    else:
        is_short = any(n <= last for n, last in zip(found.shape, source.src_space.get_select_bounds()[1], strict=False))
    if is_short:
        raise DataError(f"{path}: {source.dset_name} {list(found.shape)} is smaller than {dataset.name} takes it for")
    _check_filters(found, path)
    _check_written(found, path, found.shape[0], linked, seen)


def _cover(covered: np.ndarray, space: h5s.SpaceID) -> None:
    """Mark in `covered` what a selection of a dataspace selects."""
    if space.get_select_type() == h5s.SEL_ALL:
        covered[...] = True
    elif space.get_select_type() == h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
        start, stride, count, block = space.get_regular_hyperslab()
        index = []
        for axis, length in enumerate(covered.shape):
            times = count[axis] if count[axis] < h5s.UNLIMITED else -(-length // stride[axis])
            places = start[axis] + stride[axis] * np.arange(min(times, length))[:, None] + np.arange(block[axis])
            index.append(places[places < length])
        covered[np.ix_(*index)] = True
    elif space.get_select_type() == h5s.SEL_HYPERSLABS:
        for first, last in space.get_select_hyper_blocklist():
            covered[tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))] = True
    elif space.get_select_type() == h5s.SEL_POINTS:
        points = space.get_select_elem_pointlist()
        covered[tuple(points[points[:, 0] < len(covered)].T)] = True


def _check_filters(dataset: h5py.Dataset, path: Path) -> None:
    """Raise `DataError` naming the filter that this HDF5 lacks."""
    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        number, _, _, name = properties.get_filter(index)
        if h5z.filter_avail(number) or (find_spec("hdf5plugin") and _available_with_plugins(number)):
            continue
        known = FILTERS.get(number, name.decode(errors="replace").split(";")[0] or "unknown")
        raise DataError(
            f"{path}: {dataset.name} is compressed with the filter {known} ({number}), which is not installed: "
            "pip install hdf5plugin, or write the file with gzip"
        )


def _available_with_plugins(number: int) -> bool:
    importlib.import_module("hdf5plugin")  # registers its filters
    return bool(h5z.filter_avail(number))


def require_unpacked(dataset: h5py.Dataset, path: Path) -> None:
    """Raise `DataError` if a dataset says that its values are packed: read as they are, they would be other numbers."""
    for name, neutral in PACKING.items():
        if name in dataset.attrs and _numbers(dataset, name, path) != [neutral]:
            raise DataError(
                f"{path}: {dataset.name} is packed (attribute {name}); unpack it (value * scale_factor + add_offset), "
                "or remove the attribute if it is not"
            )


def stands_for_missing(dataset: h5py.Dataset, path: Path, values: np.ndarray) -> np.ndarray:
    """Where `values` of a dataset stand for missing ones, `[...]` bool: by the CF attributes, or as unwritten storage.

    Compared as they are trained, as float32, since attributes may have another precision than the values. Raises
    `DataError` for an attribute that is no number.
    """
    found = [value for name in MISSING_ATTRIBUTES for value in _numbers(dataset, name, path)]
    if dataset.id.get_create_plist().fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED and dataset.fillvalue:
        found.append(float(dataset.fillvalue))  # zero may well be a value
    low, high = (_numbers(dataset, name, path)[:1] for name in ("valid_min", "valid_max"))
    both = _numbers(dataset, "valid_range", path)
    low, high = low or both[:1], high or both[1:2]
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32, copy=False)
            found, low, high = ([float(np.float32(value)) for value in each] for each in (found, low, high))
    missing = np.zeros(values.shape, bool)
    for value in found:
        missing |= values == value
    for value in low:
        missing |= values < value
    for value in high:
        missing |= values > value
    return missing


def _numbers(dataset: h5py.Dataset, name: str, path: Path) -> list[float]:
    """The numbers in an attribute, also those written as text; none if it is not there or empty."""
    listed = dataset.attrs.get(name)
    try:
        return [] if listed is None or isinstance(listed, h5py.Empty) else [float(value) for value in np.ravel(listed)]
    except (TypeError, ValueError):
        raise DataError(
            f"{path}: attribute {name} of {dataset.name} is {listed!r}, no number; remove it or make it one"
        ) from None
