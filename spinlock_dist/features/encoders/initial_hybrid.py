"""initial_hybrid: manual features of the initial condition, and behind them a random CNN on its fields."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import missing_as_nan
from spinlock_dist.features.encoders.base import Arrays, NetworkEncoder, numbered


class InitialHybridEncoder(NetworkEncoder):
    """A `[N, D]` family as it is, and behind it a random CNN on the initial fields (Spinlock's name for it).

    The fields have to be in the dataset, at `/inputs/fields` of an HDF5 file. Where that has fields but no family
    `initial`, the columns are computed from them, as the simulator does.
    """

    encoder: Literal["initial_hybrid"] = "initial_hybrid"
    embedding: int = Field(28, ge=1)
    """Columns that the CNN adds."""
    needs_fields: ClassVar[bool] = True

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """The family's own, then `cnn_0`, ..."""
        return (*columns, *numbered("cnn", self.embedding))

    def network(self, inputs: int) -> Any:
        """Three strided convolutions over a periodic field, mean over space, linear head."""
        from spinlock_dist.features.encoders.random_networks import FieldCNN

        return FieldCNN(inputs, self.embedding)

    def encode(self, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
        """The values beside the CNN's outputs. Raises `DataError` for fields of another number of channels."""
        return np.concatenate([missing_as_nan(values), super().encode(arrays, values, fields)], axis=1)
