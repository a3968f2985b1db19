"""identity: the columns of a family as they are."""

from __future__ import annotations

from typing import Literal

import numpy as np

from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import missing_as_nan
from spinlock_dist.features.encoders.base import Arrays, Encoder


class IdentityEncoder(Encoder):
    """Pass the columns of a `[N, D]` family through under their own names."""

    encoder: Literal["identity"] = "identity"

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Their own."""
        return columns

    def encode(self, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
        """The values, missing ones as NaN."""
        return missing_as_nan(values)
