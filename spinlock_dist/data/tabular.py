"""Readers of flat tables in binary formats: .parquet and .npz.

Legend: N rows, B rows of a part, D columns.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow.parquet

from spinlock_dist.data.column_names import positional_names
from spinlock_dist.data.flat_table import FEWER, FLOAT32, FlatTable, not_numeric, reading, refuse_duplicates
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import really
from spinlock_dist.memory import require_memory

PART_ROWS = 1 << 13
"""Rows that are read at a time."""


def open_parquet(path: Path, max_samples: int | None) -> FlatTable:
    """The first rows of a parquet file. Raises `DataError` if it is not one or has columns without numbers."""
    with reading(path, "parquet file"), _parquet(path) as file:
        schema, there = file.schema_arrow, file.metadata.num_rows
        refuse_duplicates(path, schema.names)
        index = _pandas_index(path, schema)
        names = [name for name in schema.names if name not in index]
        if not names:
            raise DataError(f"{path}: the table has no columns{', only names of rows' if index else ''}")
        strange = [name for name in names if not _is_numeric(schema.field(name).type)]
        if strange:
            raise DataError(f"{path}: {not_numeric(strange)}")
    rows = min(there, max_samples or there)
    return FlatTable(
        path=path,
        names=names,
        rows=rows,
        parts=_parquet_parts(path, names, rows),
        needs=rows * len(names) * (8 + FLOAT32),
        in_words=f"{rows} rows of {len(names)} columns",
    )


def _parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    return pyarrow.parquet.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)


def _parquet_parts(path: Path, names: Sequence[str], rows: int) -> Iterator[np.ndarray]:
    done = 0
    with reading(path, "parquet file"), _parquet(path) as file:
        # Columns by row group: decoding one whole row group at a time is what Arrow does anyway.
        for batch in file.iter_batches(batch_size=PART_ROWS, columns=list(names)):
            part = batch.slice(0, rows - done)
            done += len(part)
            yield np.stack([_as_floats(part.column(name)) for name in names], axis=1)
            if done == rows:
                return
    if done < rows:
        raise DataError(f"{path}: {done} rows, but the file says it has {rows}; copy or write it again")


def _pandas_index(path: Path, schema: pyarrow.Schema) -> set[str]:
    """The columns that pandas wrote as the names of the rows, and would read as such. Raises `DataError` if it does not
    say which."""
    try:
        found = (schema.pandas_metadata or {}).get("index_columns", [])
        return {name for name in found if isinstance(name, str)}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path}: what pandas noted in it is damaged ({error}), so that nobody can say which columns are names of "
            "rows; write it again"
        ) from None


def _is_numeric(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _is_numeric(kind.value_type)
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(check(kind) for check in checks)


def _as_floats(column: pyarrow.Array) -> np.ndarray:
    """A column as float64, NaN where there is no value; integers beyond 2 ** 53 are rounded."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_boolean(column.type):
        column = column.cast(pyarrow.int8())
    return column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)


def open_npz(path: Path, max_samples: int | None) -> FlatTable:
    """Arrays `features` `[N, D]` and, if there, `feature_names` `[D]`. Raises `DataError` for anything else."""
    with reading(path, ".npz of plain arrays"):
        if really(path).startswith("a .npy"):
            raise DataError(
                f"{path}: is {really(path)}; write it by np.savez(path, features=array, feature_names=names)"
            )
        arrays = _arrays(path)
        if "features" not in arrays:
            raise DataError(f"{path}: no array 'features'; it has {', '.join(arrays) or 'nothing'}")
        shape, kind = _declared(path, "features")
        given = _listed_names(path) if "feature_names" in arrays else None
    if len(shape) != 2 or kind.kind not in "fiub":
        raise DataError(f"{path}: 'features' must be numbers [N, D], is {kind} {list(shape)}")
    names = positional_names(shape[1]) if given is None else _decoded(given.ravel())
    if len(names) != shape[1]:
        raise DataError(f"{path}: {len(names)} feature_names for {shape[1]} columns of 'features'")
    refuse_duplicates(path, names)
    rows = min(shape[0], max_samples or shape[0])
    return FlatTable(
        path=path,
        names=names,
        rows=rows,
        parts=_npz_parts(path, rows),
        needs=rows * shape[1] * (kind.itemsize + FLOAT32),
        in_words=f"'features' {list(shape)} {kind}",
    )


def _arrays(path: Path) -> list[str]:
    """The names of the arrays in an .npz. Raises `DataError` if two have one name: which of them counts?"""
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    twice = [name for name, times in Counter(members).items() if times > 1]
    if twice:
        raise DataError(f"{path}: has two arrays '{twice[0].removesuffix('.npy')}'; write it again with one")
    return [name.removesuffix(".npy") for name in members if name.endswith(".npy")]


def _listed_names(path: Path) -> np.ndarray:
    _require_memory(path, "feature_names", *_declared(path, "feature_names"))
    with zipfile.ZipFile(path) as archive, archive.open("feature_names.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _declared(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and kind of an array of an .npz, by its head alone. Raises `DataError` unless it is plain, and as long as
    it says."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        shape, _, kind = _head(file)
        held = archive.getinfo(f"{name}.npy").file_size - file.tell()
    if kind.hasobject:
        raise DataError(
            f"{path}: not a readable .npz of plain arrays: '{name}' holds Python objects; save it as plain values "
            f"({name}.astype({'str' if name == 'feature_names' else 'float'}))"
        )
    wanted = int(np.prod(shape, dtype=object)) * kind.itemsize
    if min(shape, default=0) < 0 or held != wanted:
        raise DataError(
            f"{path}: '{name}' {list(shape)} {kind} would be {wanted} bytes, and there are {held}; "
            "copy or write it again"
        )
    return shape, kind


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns lie together, and kind of the array in a .npy; the file is then at its values."""
    major, _ = version = np.lib.format.read_magic(file)
    if major not in (1, 2, 3):
        raise ValueError(f"version {version} of .npy")
    return (np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0)(file)


def _require_memory(path: Path, name: str, shape: tuple[int, ...], kind: np.dtype) -> None:
    size = int(np.prod(shape, dtype=object)) * (kind.itemsize + FLOAT32)
    require_memory(size, f"{path}: '{name}' {list(shape)} {kind}", DataError, FEWER)


def _npz_parts(path: Path, rows: int) -> Iterator[np.ndarray]:
    with reading(path, ".npz of plain arrays"), zipfile.ZipFile(path) as archive:
        with archive.open("features.npy") as file:
            shape, columns_together, kind = _head(file)
            if not columns_together:
                yield from _unpacked(file, rows, shape[1], kind)
                file.read(1)  # at the end of what is packed its check sum is looked at
                return
        # Its first row ends where its last column begins: nothing is whole before all is read.
        _require_memory(path, "features", shape, kind)
        with archive.open("features.npy") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
        yield from (values[start : min(start + PART_ROWS, rows)] for start in range(0, rows, PART_ROWS))


def _unpacked(file: IO[bytes], rows: int, columns: int, kind: np.dtype) -> Iterator[np.ndarray]:
    for start in range(0, rows, PART_ROWS):
        count = min(PART_ROWS, rows - start)
        content = file.read(count * columns * kind.itemsize)
        yield np.frombuffer(content, kind, count * columns).reshape(count, columns)


def _decoded(names: np.ndarray) -> tuple[str, ...]:
    return tuple(name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name) for name in names)
