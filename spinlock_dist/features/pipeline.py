"""The fitted way from a raw feature table to normalized columns, and back to raw units."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.initial_family import completed
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
from spinlock_dist.features.cleaning import Cleaning, fit_cleaning
from spinlock_dist.features.encoders.fitted import FittedEncoder, default_encoder, fit_encoder
from spinlock_dist.features.normalization import Normalization, fit_normalization


@dataclass(frozen=True, kw_only=True)
class FeaturePipeline:
    """Encoders per family, cleaning and normalization, all fitted on training rows."""

    encoders: dict[str, FittedEncoder]
    cleaning: Cleaning
    normalization: Normalization

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names `family::feature` of the D output columns."""
        return self.cleaning.names

    @property
    def families(self) -> tuple[str, ...]:
        """Families of the D output columns."""
        return self.cleaning.families

    def clean(self, table: FeatureTable) -> np.ndarray:
        """Encode and clean: `[N, D]` float64 in raw units. Raises `DataError` unless the table has the same columns."""
        return self.cleaning.apply(_encode(self.encoders, table))

    def normalize(self, cleaned: np.ndarray) -> np.ndarray:
        """Normalize cleaned values: `[N, D]` float32, finite."""
        return self.normalization.apply(cleaned).astype(np.float32)

    def transform(self, table: FeatureTable) -> np.ndarray:
        """Encode, clean and normalize: `[N, D]` float32, finite. Raises `DataError` as `clean` does."""
        return self.normalize(self.clean(table))

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Undo the normalization of `[N, D]`: float64 in raw units of the cleaned, encoded columns."""
        return self.normalization.invert(values)

    def to_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and a JSON-able rest from which `from_state` rebuilds the pipeline; nothing in them is code."""
        cleaning_arrays, cleaning_meta = self.cleaning.to_state()
        arrays = _prefixed("cleaning/", cleaning_arrays) | _prefixed("normalization/", self.normalization.arrays)
        for family, encoder in self.encoders.items():
            arrays |= _prefixed(_encoder_prefix(family), encoder.arrays)
        meta = {
            "encoders": {family: encoder.metadata() for family, encoder in self.encoders.items()},
            "cleaning": cleaning_meta,
            "normalization": self.normalization.kind,
        }
        return arrays, meta

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> FeaturePipeline:
        """Rebuild what `to_state` took apart; arrays of other prefixes are ignored."""
        encoders = {
            family: FittedEncoder.from_metadata(encoder, _unprefixed(_encoder_prefix(family), arrays))
            for family, encoder in meta["encoders"].items()
        }
        return cls(
            encoders=encoders,
            cleaning=Cleaning.from_state(_unprefixed("cleaning/", arrays), meta["cleaning"]),
            normalization=Normalization(meta["normalization"], _unprefixed("normalization/", arrays)),
        )


def fit_pipeline(
    table: FeatureTable, train_rows: np.ndarray, config: PrepareConfig, only: Collection[str] | None = None
) -> tuple[FeaturePipeline, np.ndarray]:
    """Fit on the training rows of `table`; return the pipeline and all rows cleaned, `[N, D]` float64 in raw units.

    With `only`, of these columns alone.

    Raises `DataError` if cleaning leaves too few columns, `ConfigError` if an encoder does not fit its family.
    """
    given = config.families or {}
    table = completed(table, given)
    encoders = {
        family: fit_encoder(
            family,
            given.get(family) or default_encoder(values),
            table.names[family],
            values[train_rows],
            table.fields.rows(train_rows) if table.fields else None,
        )
        for family, values in table.columns.items()
    }
    raw = _encode(encoders, table)
    named = [(f"{family}::{name}", family) for family, encoder in encoders.items() for name in encoder.names]
    names, families = tuple(name for name, _ in named), tuple(family for _, family in named)
    try:
        cleaning = fit_cleaning(raw[train_rows], names, families, config.cleaning, only)
    except DataError as error:
        raise DataError(f"{table.source}: {error}") from None
    cleaned = cleaning.apply(raw)
    normalization = fit_normalization(config.normalization, cleaned[train_rows])
    return FeaturePipeline(encoders=encoders, cleaning=cleaning, normalization=normalization), cleaned


def _checked(encoders: dict[str, FittedEncoder], table: FeatureTable) -> FeatureTable:
    """The table with all that the encoders need. Raises `DataError` if it is not what they were fitted on."""
    table = completed(table, {family: encoder.config for family, encoder in encoders.items()})
    for family, encoder in encoders.items():
        if family not in table.columns:
            raise DataError(f"{table.source}: no family '{family}', which the pipeline was fitted on")
        if table.names[family] != encoder.columns:
            raise DataError(
                f"{table.source}: the columns of family '{family}' are not those the pipeline was fitted on: "
                f"{_difference(table.names[family], encoder.columns)}"
            )
    return table


def _difference(found: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """How other names than the wanted ones differ from them, by the first that does."""
    lacking = [f"'{name}' is not there" for name in wanted if name not in found]
    more = [f"'{name}' was not there then" for name in found if name not in wanted]
    return ", ".join([*lacking[:1], *more[:1]]) or "they come in another order"


def _encode(encoders: dict[str, FittedEncoder], table: FeatureTable) -> np.ndarray:
    table = _checked(encoders, table)
    encoded = [encoder.encode(table.columns[family], table.fields) for family, encoder in encoders.items()]
    return np.concatenate(encoded, axis=1)


def _encoder_prefix(family: str) -> str:
    return f"encoders/{family}/"


def _prefixed(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {prefix + name: array for name, array in arrays.items()}


def _unprefixed(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
