"""The feature table: what every reader returns and every later step takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.errors import DataError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Raw features of N operators by family.

    `columns[family]` is `[N, D]` float32 or, for time series, `[N, T, D]` float32; `names[family]` are its D column
    names, without the family. Rows correspond across families. Values that are not finite are missing.
    """

    columns: dict[str, np.ndarray]
    names: dict[str, tuple[str, ...]]
    source: str
    """Where it was read from, for messages."""
    fields: Fields | None = None
    """Initial fields `[N, C, H, W]`, where there are any; read only if an encoder looks at them."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, index: np.ndarray) -> FeatureTable:
        """The table of the given rows, in that order."""
        columns = {family: values[index] for family, values in self.columns.items()}
        fields = None if self.fields is None else self.fields.rows(index)
        return FeatureTable(columns=columns, names=self.names, source=self.source, fields=fields)


def require_families(wanted: Collection[str], available: Collection[str], source: str) -> None:
    """Raise `DataError`, naming the nearest family there is, unless all the wanted ones are available."""
    for family in wanted:
        if family not in available:
            raise DataError(f"{source}: no family '{family}'{did_you_mean(family, available)}")


def require_same_rows(counts: Mapping[str, int], source: str) -> None:
    """Raise `DataError` unless all families have equally many rows."""
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{family} {count}" for family, count in counts.items())
        raise DataError(f"{source}: the families have different numbers of rows: {found}")


def missing_as_nan(values: np.ndarray) -> np.ndarray:
    """A copy of `values` as float64 with everything that is not finite as NaN."""
    values = values.astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values
