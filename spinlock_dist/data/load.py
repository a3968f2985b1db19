"""From a path to a checked feature table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.initial_family import completed, computable
from spinlock_dist.data.table import FeatureTable, require_families
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import require_file

MIN_ROWS = 10
"""Fewer rows leave a part of a 70/15/15 split with a single row or none."""

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def load_table(config: PrepareConfig) -> FeatureTable:
    """Read the first `max_samples` rows of the dataset in `config`; without a dataset, simulate one (cached).

    Returns the families named in the config, or all that are there. Raises `DataError` if the dataset is missing,
    unreadable, lacks a family or the fields asked for, or cannot be learned from.
    """
    path = Path(config.dataset) if config.dataset is not None else _simulated(config)
    require_file(path, DataError, "no such dataset; check the path, or name no dataset to use the built-in simulator")
    table = completed(_read(path, config), config.families or {})
    _check(table)
    return table


def _simulated(config: PrepareConfig) -> Path:
    from spinlock_dist.simulator import cached_dataset  # needs torch; readers do not

    return Path(cached_dataset(config.simulator))


def _read(path: Path, config: PrepareConfig) -> FeatureTable:
    # Each reader brings its own library; only the one in use is imported.
    suffix = path.suffix.lower()
    if suffix in HDF5_SUFFIXES:
        from spinlock_dist.data.hdf5 import read_hdf5

        may_lack = computable(config.families or {})
        return read_hdf5(path, config.families, config.max_samples, may_lack, config.linked_files)
    from spinlock_dist.data import csv_table, tabular

    readers = {".parquet": tabular.read_parquet, ".csv": csv_table.read_csv, ".npz": tabular.read_npz}
    if suffix not in readers:
        known = ", ".join((*HDF5_SUFFIXES, *readers))
        raise DataError(f"{path}: unknown dataset format '{suffix}'; known: {known}")
    table = readers[suffix](path, config.max_samples)
    return table if config.families is None else _choose(table, tuple(config.families))


def _choose(table: FeatureTable, wanted: tuple[str, ...]) -> FeatureTable:
    require_families(wanted, table.columns, table.source)
    columns = {family: values for family, values in table.columns.items() if family in wanted}
    return FeatureTable(columns=columns, names={family: table.names[family] for family in columns}, source=table.source)


def _check(table: FeatureTable) -> None:
    """Raise `DataError` unless the families have equally many rows, enough of them, and named columns with values."""
    rows = {family: len(values) for family, values in table.columns.items()}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{family} {count}" for family, count in rows.items())
        raise DataError(f"{table.source}: the families have different numbers of rows: {counts}")
    for family, values in table.columns.items():
        if values.shape[-1] == 0 or (values.ndim == 3 and values.shape[1] == 0):
            raise DataError(f"{table.source}: family '{family}' has no columns (shape {list(values.shape)})")
    if not rows:
        raise DataError(f"{table.source}: the table has no columns; name a file that has")
    if table.fields is not None and len(table.fields) != len(table):
        raise DataError(
            f"{table.source}: {len(table.fields)} initial fields (/inputs/fields) for {len(table)} rows of features"
        )
    if len(table) < MIN_ROWS:
        count = "1 row" if len(table) == 1 else f"{len(table)} rows"
        raise DataError(f"{table.source}: {count}; at least {MIN_ROWS} are needed to split into train/validation/test")
    for family, values in table.columns.items():
        _check_columns(table.source, family, table.names[family], values)


def _check_columns(source: str, family: str, names: tuple[str, ...], values: np.ndarray) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{source}: family '{family}' has more than one column named '{twice[0]}'; rename them")
    has_value = np.isfinite(values).any(axis=tuple(range(values.ndim - 1)))
    empty = [f"{family}::{names[column]}" for column in np.flatnonzero(~has_value)]
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        raise DataError(f"{source}: no finite value in column {', '.join(empty[:3])}{more}; remove it from the dataset")
