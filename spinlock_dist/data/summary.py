"""A dataset in figures, from one pass over its rows: any number of them in constant memory.

Legend: N rows, T time steps, D columns of a family.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from spinlock_dist.data.table import FeatureTable

FIGURES = ("mean", "std", "low", "high")


@dataclass(frozen=True, kw_only=True)
class ColumnSummary:
    """One column of a family, over all rows and time steps. Figures are of its values; None where there are none."""

    name: str
    """Without the family."""
    missing: int
    """Values that are not there, or not finite."""
    constant: bool
    """Whether all values are the same."""
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class FamilySummary:
    """One family."""

    name: str
    shape: tuple[int, ...]
    """`(N, D)`, or `(N, T, D)` of a time series."""
    columns: tuple[ColumnSummary, ...]

    @property
    def scales(self) -> tuple[float, float] | None:
        """The smallest and the largest standard deviation of its columns that vary; None if none does."""
        found = [column.std for column in self.columns if column.std and not column.constant]
        return (min(found), max(found)) if found else None


def summarize(tables: Iterable[FeatureTable]) -> tuple[FamilySummary, ...]:
    """The families of a dataset that comes in batches; what a reader raises on the way passes through."""
    running: dict[str, _Running] = {}
    for table in tables:
        for family, values in table.columns.items():
            running.setdefault(family, _Running(table.names[family], values)).add(values)
    return tuple(each.summary(family) for family, each in running.items())


class _Running:
    """Sums over the rows seen so far, about the first value of every column: squares of what is far off lose digits."""

    def __init__(self, names: tuple[str, ...], first: np.ndarray):
        self.names, self.inner = names, first.shape[1:]
        flat = first.reshape(-1, first.shape[-1]).astype(np.float64)
        known = np.isfinite(flat)
        self.origin = np.where(known.any(axis=0), flat[known.argmax(axis=0), np.arange(flat.shape[1])], 0.0)
        self.rows = 0
        self.count = np.zeros(flat.shape[1], np.int64)
        self.sum, self.squares = np.zeros(flat.shape[1]), np.zeros(flat.shape[1])
        self.low, self.high = np.full(flat.shape[1], np.inf), np.full(flat.shape[1], -np.inf)

    def add(self, values: np.ndarray) -> None:
        flat = values.reshape(-1, values.shape[-1])
        known = np.isfinite(flat)
        deviation = np.where(known, flat, self.origin) - self.origin
        self.rows += len(values)
        self.count += known.sum(axis=0)
        self.sum += deviation.sum(axis=0)
        self.squares += np.square(deviation).sum(axis=0)
        self.low = np.minimum(self.low, np.where(known, flat, np.inf).min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(known, flat, -np.inf).max(axis=0, initial=-np.inf))

    def summary(self, family: str) -> FamilySummary:
        seen = self.rows * int(np.prod(self.inner[:-1], dtype=np.int64))
        count = np.maximum(self.count, 1)
        mean = self.sum / count
        std = np.sqrt(np.maximum(self.squares / count - mean**2, 0.0))
        figures = np.stack([self.origin + mean, std, self.low, self.high], axis=1).tolist()
        columns = [
            ColumnSummary(
                name=name,
                missing=int(seen - self.count[at]),
                constant=bool(self.low[at] == self.high[at]),
                **dict(zip(FIGURES, figures[at] if self.count[at] else [None] * len(FIGURES), strict=True)),
            )
            for at, name in enumerate(self.names)
        ]
        return FamilySummary(name=family, shape=(self.rows, *self.inner), columns=tuple(columns))
