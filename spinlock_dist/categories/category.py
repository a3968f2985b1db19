"""A category: a named set of feature columns that is tokenized together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """`columns` are ascending indices into the cleaned features `[N, D]`; categories partition the D columns."""

    name: str
    columns: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.columns)
