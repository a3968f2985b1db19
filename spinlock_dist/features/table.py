"""The feature table: what every reader returns and every later step takes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Raw features of N operators by family.

    `columns[family]` is `[N, D]` float32 or, for time series, `[N, T, D]` float32; `names[family]` are its D column
    names, without the family. Rows correspond across families. Values may hold NaN.
    """

    columns: dict[str, np.ndarray]
    names: dict[str, tuple[str, ...]]
    source: str
    """Where it was read from, for messages."""
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    """`[N, C, H, W]` float32 fields, only where a family's encoder needs them."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, index: np.ndarray) -> FeatureTable:
        """Return the table of the given rows, in that order."""
        return FeatureTable(
            columns={family: values[index] for family, values in self.columns.items()},
            names=self.names,
            source=self.source,
            fields={family: values[index] for family, values in self.fields.items()},
        )
