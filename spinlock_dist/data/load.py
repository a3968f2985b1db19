"""From a path to a checked feature table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.flat_table import FlatTable
from spinlock_dist.data.initial_family import completed, computable
from spinlock_dist.data.table import FeatureTable, require_families, require_same_rows
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import require_file

if TYPE_CHECKING:
    from spinlock_dist.data.hdf5 import Hdf5Source

MIN_ROWS = 10
"""Fewer rows leave a part of a 70/15/15 split with a single row or none."""

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def chosen_dataset(trained_on: PrepareConfig, dataset: str | None, option: str = "--dataset FILE") -> PrepareConfig:
    """Where to read all rows of `dataset` as a training read its own; without one, that which it was trained on.

    Raises `DataError` if that is not there; `option` then names the way out.
    """
    if dataset is not None:
        return trained_on.model_copy(update={"dataset": dataset, "max_samples": None})
    if trained_on.dataset is not None and not Path(trained_on.dataset).exists():
        raise DataError(f"{trained_on.dataset}: what this checkpoint was trained on is not there; use {option}")
    return trained_on


def load_table(config: PrepareConfig) -> FeatureTable:
    """Read the first `max_samples` rows of the dataset in `config`; without a dataset, simulate one (cached).

    Returns the families named in the config, or all that are there. Raises `DataError` if the dataset is missing,
    unreadable, lacks a family or the fields asked for, or cannot be learned from.
    """
    table = completed(_choose(_source(config).whole(), config), config.families or {})
    _check(table)
    return table


def load_labels(config: PrepareConfig, rows: int) -> dict[str, np.ndarray]:
    """What the dataset in `config` says of its first `rows` rows beside their features: text `[rows]` by name.

    An HDF5 file has them under `/metadata`, if at all; the other formats have none. Raises `DataError` as `load_table`.
    """
    path = _path(config)
    if path.suffix.lower() not in HDF5_SUFFIXES:
        return {}
    from spinlock_dist.data.row_labels import read_labels

    return read_labels(path, rows)


@dataclass(frozen=True)
class Batches:
    """A dataset that is read some rows at a time, once, in order."""

    rows: int | None
    """Of all batches; None where only reading to the end tells."""
    tables: Iterator[FeatureTable]


def load_batches(config: PrepareConfig, size: int) -> Batches:
    """As `load_table`, `size` rows at a time: a dataset need not fit in memory.

    Nothing is learned from the rows: any number of them will do, and columns without a value too. Raises `DataError` as
    `load_table` does; for what is wrong with the values, when they are reached.
    """
    source = _source(config)
    rows = source.rows if isinstance(source, FlatTable) else source.rows()
    families = config.families or {}
    return Batches(
        rows, (_checked_shape(completed(_choose(table, config), families)) for table in source.batches(size))
    )


def _path(config: PrepareConfig) -> Path:
    path = Path(config.dataset) if config.dataset is not None else _simulated(config)
    require_file(path, DataError, "no such dataset; check the path, or name no dataset to use the built-in simulator")
    return path


def _source(config: PrepareConfig) -> FlatTable | Hdf5Source:
    path = _path(config)
    # Each reader brings its own library; only the one in use is imported.
    suffix = path.suffix.lower()
    if suffix in HDF5_SUFFIXES:
        from spinlock_dist.data.hdf5 import Hdf5Source

        return Hdf5Source(
            path=path,
            families=config.families,
            max_samples=config.max_samples,
            may_lack=computable(config.families or {}),
            linked=config.linked_files,
        )
    from spinlock_dist.data import csv_table, tabular

    readers = {".parquet": tabular.open_parquet, ".csv": csv_table.open_csv_table, ".npz": tabular.open_npz}
    if suffix not in readers:
        known = ", ".join((*HDF5_SUFFIXES, *readers))
        raise DataError(f"{path}: unknown dataset format '{suffix}'; known: {known}")
    return readers[suffix](path, config.max_samples)


def _simulated(config: PrepareConfig) -> Path:
    from spinlock_dist.simulator import cached_dataset  # needs torch; readers do not

    return Path(cached_dataset(config.simulator))


def _choose(table: FeatureTable, config: PrepareConfig) -> FeatureTable:
    """The families that the config names; those that can be computed may be missing, as the reader has seen to."""
    if config.families is None:
        return table
    wanted = [name for name in config.families if name in table.columns or name not in computable(config.families)]
    require_families(wanted, table.columns, table.source)
    columns = {family: values for family, values in table.columns.items() if family in wanted}
    return replace(table, columns=columns, names={family: table.names[family] for family in columns})


def _checked_shape(table: FeatureTable) -> FeatureTable:
    """Raise `DataError` unless the families have equally many rows, and columns, each of a name of its own."""
    require_same_rows({family: len(values) for family, values in table.columns.items()}, table.source)
    for family, values in table.columns.items():
        if values.shape[-1] == 0 or (values.ndim == 3 and values.shape[1] == 0):
            raise DataError(f"{table.source}: family '{family}' has no columns (shape {list(values.shape)})")
        unnamed = [place for place, name in enumerate(table.names[family], 1) if not name.strip() or "\0" in name]
        if unnamed or not family.strip() or "\0" in family:
            where = f"column {unnamed[0]} of family '{family}'" if unnamed else "a family"
            raise DataError(f"{table.source}: {where} has no name, or one with a null character; name it")
        twice = [name for name, times in Counter(table.names[family]).items() if times > 1]
        if twice:
            raise DataError(
                f"{table.source}: family '{family}' has more than one column named '{twice[0]}'; rename them"
            )
    if not table.columns:
        raise DataError(f"{table.source}: the table has no columns; name a file that has")
    if table.fields is not None and len(table.fields) != len(table):
        raise DataError(
            f"{table.source}: {len(table.fields)} initial fields (/inputs/fields) for {len(table)} rows of features"
        )
    return table


def _check(table: FeatureTable) -> None:
    """Raise `DataError` unless the table has the right shape, enough rows, and values in every column."""
    _checked_shape(table)
    if len(table) < MIN_ROWS:
        count = "1 row" if len(table) == 1 else f"{len(table)} rows"
        raise DataError(f"{table.source}: {count}; at least {MIN_ROWS} are needed to split into train/validation/test")
    for family, values in table.columns.items():
        _check_columns(table.source, family, table.names[family], values)


def _check_columns(source: str, family: str, names: tuple[str, ...], values: np.ndarray) -> None:
    has_value = np.isfinite(values).any(axis=tuple(range(values.ndim - 1)))
    empty = [f"{family}::{names[column]}" for column in np.flatnonzero(~has_value)]
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        raise DataError(f"{source}: no finite value in column {', '.join(empty[:3])}{more}; remove it from the dataset")
