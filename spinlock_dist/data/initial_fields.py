"""The initial fields of operators, read when somebody looks at them: all at once they may not fit in memory.

Legend: N rows, B rows of a block, C channels, H x W cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

BLOCK = 256
"""Rows that are in memory at a time."""


class Source(Protocol):
    """What fields are read from: an array, or a dataset in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, C, H, W)`."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """The given rows; they ascend and differ."""


class Fields:
    """Initial fields `[N, C, H, W]` of chosen rows of a source, in the order chosen; all rows unless told which."""

    def __init__(self, source: Source, rows: np.ndarray | None = None):
        self._source = source
        self._rows = np.arange(source.shape[0]) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, C, H, W)`."""
        return (len(self), *self._source.shape[1:])

    def rows(self, index: np.ndarray) -> Fields:
        """The fields of the given rows, in that order, without reading any."""
        return Fields(self._source, self._rows[index])

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read rows: `[B, C, H, W]` float32."""
        ascending, place = np.unique(self._rows[rows], return_inverse=True)
        if not len(ascending):
            return np.empty((0, *self.shape[1:]), np.float32)
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
            return self._source[ascending].astype(np.float32, copy=False)[place]

    def blocks(self) -> Iterator[np.ndarray]:
        """Read all rows, block by block: `[B, C, H, W]` float32 each."""
        for start in range(0, len(self), BLOCK):
            yield self[start : start + BLOCK]
