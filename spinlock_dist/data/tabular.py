"""Readers of flat tables: .parquet, .csv and .npz with columns `family::feature`, or of the one family `table`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from spinlock_dist.data.column_names import positional_names
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError

FLAT_FAMILY = "table"


def read_parquet(path: Path, max_samples: int | None) -> FeatureTable:
    """Read the first rows of a parquet file. Raises `DataError` if it is not one or has columns without numbers."""
    with _reading(path, "parquet file"):
        _refuse_duplicates(path, pyarrow.parquet.read_schema(path).names)
        frame = pd.read_parquet(path).head(max_samples) if max_samples else pd.read_parquet(path)
    return _from_frame(path, frame)


def read_csv(path: Path, max_samples: int | None) -> FeatureTable:
    """Read the first rows of a CSV file whose first line names the columns. Raises `DataError` if it is not one."""
    with _reading(path, "CSV file"):
        # pandas would silently rename the second of two equal names, and invent one where there is none.
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
        _check_header(path, [str(name) for name in header])
        # In one piece: read in chunks, a column may differ in type from one to the next, which is a warning.
        frame = pd.read_csv(path, nrows=max_samples, low_memory=False)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes what is too much in front for row names
        raise DataError(f"{path}: the rows have more values than the first line has names; name every column")
    for name in [name for name, kind in frame.dtypes.items() if pd.api.types.is_object_dtype(kind)]:
        frame[name] = _beyond_64_bits(frame[name])
    return _from_frame(path, frame)


def read_npz(path: Path, max_samples: int | None) -> FeatureTable:
    """Read `features` `[N, D]` and, if there, `feature_names` `[D]`. Raises `DataError` for anything else."""
    with _reading(path, ".npz of plain arrays"), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if "features" not in archive.files:
            raise DataError(f"{path}: no array 'features'; it has {', '.join(archive.files) or 'nothing'}")
        values = archive["features"]
        given = archive["feature_names"] if "feature_names" in archive.files else None
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        shape = list(values.shape)
        raise DataError(f"{path}: 'features' must be numbers [N, D], is {values.dtype} {shape}")
    names = positional_names(values.shape[1]) if given is None else _decoded(given.ravel())
    if len(names) != values.shape[1]:
        raise DataError(f"{path}: {len(names)} feature_names for {values.shape[1]} columns of 'features'")
    return _by_family(path, names, values[:max_samples])


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises on bytes it cannot read into a `DataError`.

    Everything, since damage can surface in any layer: zip, zlib, Arrow, JSON, text encoding, array header.
    """
    try:
        yield
    except DataError:
        raise
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty; expected a line of column names and rows of numbers") from None
    except Exception as error:
        raise DataError(f"{path}: not a readable {kind} ({_first_line(error)})") from None


def _check_header(path: Path, names: list[str]) -> None:
    """Raise `DataError` unless the first line of a CSV file names the columns, each once."""
    if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
        raise DataError(f"{path}: commas must separate the columns; the first line is {names[0]!r}")
    if all(_is_number(name) for name in names):
        raise DataError(f"{path}: the first line holds numbers; it must name the columns")
    unnamed = [place for place, name in enumerate(names, start=1) if not name.strip()]
    if unnamed:
        raise DataError(
            f"{path}: column {unnamed[0]} has no name; name it, or leave it out if it numbers the rows "
            "(pandas: to_csv(..., index=False))"
        )
    _refuse_duplicates(path, names)


def _beyond_64_bits(column: pd.Series) -> pd.Series:
    """A column of whole numbers that no integer type holds as floats, any other as it is."""
    try:
        return column.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        return column


def _from_frame(path: Path, frame: pd.DataFrame) -> FeatureTable:
    if frame.empty:
        raise DataError(f"{path}: the table has column names but no rows")
    names = [str(name) for name in frame.columns]
    strange = [
        name
        for name, kind in zip(names, frame.dtypes, strict=True)
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind))
        or pd.api.types.is_complex_dtype(kind)
    ]
    if strange:
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise DataError(f"{path}: columns that are not numeric: {', '.join(strange[:5])}{more}; remove or encode them")
    return _by_family(path, names, frame.to_numpy(dtype=np.float64, na_value=np.nan))


def _by_family(path: Path, names: Sequence[str], values: np.ndarray) -> FeatureTable:
    _refuse_duplicates(path, names)
    split = [name.split("::", 1) if "::" in name else [FLAT_FAMILY, name] for name in names]
    members: dict[str, list[int]] = {}
    for column, (family, _) in enumerate(split):
        members.setdefault(family, []).append(column)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        columns = {family: values[:, index].astype(np.float32) for family, index in members.items()}
    own_names = {family: tuple(split[column][1] for column in index) for family, index in members.items()}
    return FeatureTable(columns=columns, names=own_names, source=str(path))


def _refuse_duplicates(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{path}: more than one column is named {', '.join(map(repr, twice[:5]))}; rename them")


def _decoded(names: np.ndarray) -> tuple[str, ...]:
    return tuple(name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name) for name in names)


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
