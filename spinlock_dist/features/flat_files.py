"""Readers of flat tables: .parquet, .csv and .npz with columns `family::feature`, or of the one family `table`."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from spinlock_dist.errors import DataError
from spinlock_dist.features.registry import positional_names
from spinlock_dist.features.table import FeatureTable

FLAT_FAMILY = "table"


def read_parquet(path: Path, max_samples: int | None) -> FeatureTable:
    """Read the first rows of a parquet file. Raises `DataError` if it is not one or has columns without numbers."""
    try:
        _refuse_duplicates(path, pyarrow.parquet.read_schema(path).names)
        frame = pd.read_parquet(path).head(max_samples) if max_samples else pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({_first_line(error)})") from None
    return _from_frame(path, frame)


def read_csv(path: Path, max_samples: int | None) -> FeatureTable:
    """Read the first rows of a CSV file whose first line names the columns. Raises `DataError` if it is not one."""
    try:
        # pandas would silently rename the second of two equal names, hence the separate look at the first line.
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, skip_blank_lines=True).iloc[0]
        _refuse_duplicates(path, [str(name) for name in header])
        frame = pd.read_csv(path, nrows=max_samples)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty; expected a line of column names and rows of numbers") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not a readable CSV file ({_first_line(error)})") from None
    if all(_is_number(name) for name in frame.columns):
        raise DataError(f"{path}: the first line holds numbers; it must name the columns")
    return _from_frame(path, frame)


def read_npz(path: Path, max_samples: int | None) -> FeatureTable:
    """Read `features` `[N, D]` and, if there, `feature_names` `[D]`. Raises `DataError` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "features" not in archive.files:
                raise DataError(f"{path}: no array 'features'; it has {', '.join(archive.files) or 'nothing'}")
            values = archive["features"][:max_samples]
            given = archive["feature_names"] if "feature_names" in archive.files else None
    except (ValueError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz of plain arrays ({_first_line(error)})") from None
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        shape = list(values.shape)
        raise DataError(f"{path}: 'features' must be numbers [N, D], is {values.dtype} {shape}")
    names = positional_names(values.shape[1]) if given is None else _decoded(given)
    if len(names) != values.shape[1]:
        raise DataError(f"{path}: {len(names)} feature_names for {values.shape[1]} columns of 'features'")
    return _by_family(path, names, values)


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
