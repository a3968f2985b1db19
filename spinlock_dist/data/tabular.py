"""Readers of flat tables: .parquet and .npz with columns `family::feature`, or of the one family `table`."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet

from spinlock_dist.data.column_names import positional_names
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import really
from spinlock_dist.memory import require_memory

FLAT_FAMILY = "table"
BATCH_ROWS = 1 << 14
FLOAT32 = 4
FEWER = "read fewer rows (prepare.max_samples), or check what the file declares"
OWN = {".parquet": ("a parquet file",), ".npz": ("a zip archive, as .npz and .xlsx are",)}
"""What the first bytes of a file say that is what its suffix says."""
SAVED_INDEX = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")
"""What pandas calls an index that was saved as a column, in CSV and in parquet files."""
NUMBERING = re.compile(r"index|idx|id|row|rows|row_?(id|number|num|nr|index)|level_\d+", re.IGNORECASE)
"""What people call one; a column of such a name is one if it counts."""


def read_parquet(path: Path, max_samples: int | None) -> FeatureTable:
    """Read the first rows of a parquet file. Raises `DataError` if it is not one or has columns without numbers."""
    with (
        reading(path, "parquet file"),
        pyarrow.parquet.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        schema = file.schema_arrow
        refuse_duplicates(path, schema.names)
        names = [name for name in schema.names if name not in _pandas_index(schema)]
        strange = [name for name in names if not _is_numeric(schema.field(name).type)]
        if strange:
            raise DataError(f"{path}: {not_numeric(strange)}")
        rows = min(file.metadata.num_rows, max_samples or file.metadata.num_rows)
        require_rows(path, rows, len(names))
        values = np.empty((rows, len(names)), np.float64)
        done = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names):
            part = batch.slice(0, rows - done)
            for column, name in enumerate(names):
                values[done : done + len(part), column] = _as_floats(part.column(name))
            done += len(part)
            if done == rows:
                break
    if done < rows:
        raise DataError(f"{path}: {done} rows, but the file says it has {rows}; copy or write it again")
    return by_family(path, names, values)


def _pandas_index(schema: pyarrow.Schema) -> set[str]:
    """The columns that pandas wrote as the names of the rows, and would read as such."""
    found = (schema.pandas_metadata or {}).get("index_columns", [])
    return {name for name in found if isinstance(name, str)}


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


def read_npz(path: Path, max_samples: int | None) -> FeatureTable:
    """Read `features` `[N, D]` and, if there, `feature_names` `[D]`. Raises `DataError` for anything else."""
    with reading(path, ".npz of plain arrays"):
        if really(path).startswith("a .npy"):
            raise DataError(
                f"{path}: is {really(path)}; write it by np.savez(path, features=array, feature_names=names)"
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if "features" not in archive.files:
                raise DataError(f"{path}: no array 'features'; it has {', '.join(archive.files) or 'nothing'}")
            for name in ("features", "feature_names"):
                if name in archive.files:
                    _check_array(path, name)
            values = archive["features"]
            given = archive["feature_names"] if "feature_names" in archive.files else None
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        shape = list(values.shape)
        raise DataError(f"{path}: 'features' must be numbers [N, D], is {values.dtype} {shape}")
    names = positional_names(values.shape[1]) if given is None else _decoded(given.ravel())
    if len(names) != values.shape[1]:
        raise DataError(f"{path}: {len(names)} feature_names for {values.shape[1]} columns of 'features'")
    return by_family(path, names, values[:max_samples])


def _check_array(path: Path, name: str) -> None:
    """Raise `DataError` unless an array of an .npz is plain and fits in memory, by its head alone."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        read = np.lib.format.read_array_header_1_0
        if np.lib.format.read_magic(file) != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
    if kind.hasobject:
        raise DataError(
            f"{path}: not a readable .npz of plain arrays: '{name}' holds Python objects; save it as plain values "
            f"({name}.astype({'str' if name == 'feature_names' else 'float'}))"
        )
    size = int(np.prod(shape, dtype=object)) * (kind.itemsize + FLOAT32)
    require_memory(size, f"{path}: '{name}' {list(shape)} {kind}", DataError, FEWER)


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises on bytes it cannot read into a `DataError`.

    Everything, since damage can surface in any layer: zip, zlib, Arrow, JSON, text encoding, array header.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        found = f"; it is {really(path)}" if really(path) not in ("", *OWN.get(path.suffix.lower(), ())) else ""
        raise DataError(f"{path}: not a readable {kind} ({_first_line(error)}){found}") from None


def require_rows(path: Path, rows: int, columns: int) -> None:
    """Raise `DataError` if there are no rows, or more than fit in memory."""
    if rows == 0:
        raise DataError(f"{path}: the table has column names but no rows")
    require_memory(rows * columns * (8 + FLOAT32), f"{path}: {rows} rows of {columns} columns", DataError, FEWER)


def not_numeric(names: Sequence[str]) -> str:
    """What is said of columns that hold something else than numbers."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"columns that are not numeric: {', '.join(names[:5])}{more}; remove or encode them"


def _refuse_row_numbers(path: Path, names: Sequence[str], values: np.ndarray) -> None:
    """Raise `DataError` for a column that numbers the rows: pandas' saved index, or one called so that counts."""
    for column, name in enumerate(names):
        counts = NUMBERING.fullmatch(name) and bool((np.diff(values[:, column]) == 1).all())
        if counts or SAVED_INDEX.fullmatch(name):
            raise DataError(
                f"{path}: column '{name}' numbers the rows and would be trained as a feature; remove it "
                "(pandas: index_col=0 in read_csv, reset_index(drop=True) before to_parquet, index=False in to_csv)"
            )


def by_family(path: Path, names: Sequence[str], values: np.ndarray) -> FeatureTable:
    """The table of columns called `family::feature`, or of the one family `table`; values `[N, D]`."""
    refuse_duplicates(path, names)
    _refuse_row_numbers(path, names, values)
    split = [name.split("::", 1) if "::" in name else [FLAT_FAMILY, name] for name in names]
    members: dict[str, list[int]] = {}
    for column, (family, _) in enumerate(split):
        members.setdefault(family, []).append(column)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        columns = {family: values[:, index].astype(np.float32) for family, index in members.items()}
    own_names = {family: tuple(split[column][1] for column in index) for family, index in members.items()}
    return FeatureTable(columns=columns, names=own_names, source=str(path))


def refuse_duplicates(path: Path, names: Sequence[str]) -> None:
    """Raise `DataError` if two columns have one name."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{path}: more than one column is named {', '.join(map(repr, twice[:5]))}; rename them")


def _decoded(names: np.ndarray) -> tuple[str, ...]:
    return tuple(name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name) for name in names)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
