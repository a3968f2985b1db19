"""An encoder fitted on a family's training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from spinlock_dist.config import ENCODERS, FamilyEncoder, read_encoder
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.errors import ConfigError
from spinlock_dist.features.encoders.base import Arrays, Encoder

SHAPES = {2: "[N, D]", 3: "[N, T, D]"}


@dataclass(frozen=True)
class FittedEncoder:
    """An encoder with what it learned. `columns` are the family's raw column names, `arrays` its fitted state."""

    config: Encoder
    columns: tuple[str, ...]
    arrays: Arrays

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the D' output columns, without the family."""
        return self.config.names(self.columns)

    def encode(self, values: np.ndarray, fields: Fields | None = None) -> np.ndarray:
        """Map raw `[N, D]` or `[N, T, D]` to `[N, D']` float64; every row on its own. Missing values may stay NaN.

        `fields` are the rows' initial fields, read block by block where the encoder needs them. Raises `DataError` if
        they have another number of channels than those it was fitted on.
        """
        return self.config.encode(self.arrays, values, fields if self.config.needs_fields else None)

    def metadata(self) -> dict[str, Any]:
        """What, with `arrays`, restores this encoder; JSON-able."""
        return {"config": self.config.model_dump(mode="json"), "columns": list(self.columns)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any], arrays: Arrays) -> FittedEncoder:
        """Restore the encoder that gave `metadata` and `arrays`."""
        return cls(read_encoder(metadata["config"]), tuple(metadata["columns"]), arrays)


def default_encoder(values: np.ndarray) -> FamilyEncoder:
    """The encoder of a family for which the config names none: one that keeps names readable."""
    return cast(FamilyEncoder, read_encoder({"encoder": "temporal_stats" if values.ndim == 3 else "identity"}))


def fit_encoder(
    family: str,
    config: FamilyEncoder,
    columns: tuple[str, ...],
    x_train: np.ndarray,
    fields: Fields | None = None,
) -> FittedEncoder:
    """Fit an encoder on training rows `[N, D]` or `[N, T, D]`, and on their initial fields if it needs them.

    Raises `ConfigError` if it takes the other shape.
    """
    encoder = cast(Encoder, config)
    if x_train.ndim != encoder.axes:
        fitting = [name for name, kind in ENCODERS.items() if cast(type[Encoder], kind).axes == x_train.ndim]
        raise ConfigError(
            f"families.{family}: encoder '{config.encoder}' takes {SHAPES[encoder.axes]}, "
            f"the family is {SHAPES[x_train.ndim]}; use one of: {', '.join(fitting)}"
        )
    return FittedEncoder(encoder, columns, encoder.fit(family, x_train, fields if encoder.needs_fields else None))
