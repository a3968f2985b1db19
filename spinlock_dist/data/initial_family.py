"""What an `initial_hybrid` family needs of a table: initial fields, and manual features, computed if there are none.

Legend: N rows, C channels, H x W cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from spinlock_dist.config import FamilyEncoder
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError

FAMILY = "initial"
"""The one family whose manual features can be computed."""


def computable(families: Mapping[str, FamilyEncoder]) -> list[str]:
    """The families that a dataset may lack, since they can be computed from its fields."""
    return [name for name, encoder in families.items() if name == FAMILY and encoder.needs_fields]


def completed(table: FeatureTable, families: Mapping[str, FamilyEncoder]) -> FeatureTable:
    """`table` with the family `initial` computed where an `initial_hybrid` asks for it and there is none.

    Raises `DataError` if an encoder looks at fields that are not there, or are not those of the table's rows.
    """
    hybrids = [name for name, encoder in families.items() if encoder.needs_fields]
    if not hybrids:
        return table
    fields = _required_fields(table, hybrids[0], families[hybrids[0]])
    if table.columns and len(fields) != len(table):
        raise DataError(f"{table.source}: {len(fields)} initial fields for {len(table)} rows of features")
    if FAMILY not in hybrids or FAMILY in table.columns:
        return table
    names, values = _manual_features(fields, table.source)
    return replace(table, columns={FAMILY: values, **table.columns}, names={**table.names, FAMILY: names})


def _required_fields(table: FeatureTable, family: str, encoder: FamilyEncoder) -> Fields:
    if table.fields is None:
        raise DataError(
            f"{table.source}: encoder '{encoder.encoder}' of family '{family}' looks at initial fields, which are not "
            "there (/inputs/fields [N, C, H, W] of an HDF5 file); use another encoder, e.g. identity"
        )
    return table.fields


def _manual_features(fields: Fields, source: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values `[N, D]` of the simulator's features of initial fields, read block by block."""
    from spinlock_dist.simulator.features_initial import describe  # needs torch

    *_, height, width = fields.shape
    if height != width:
        raise DataError(
            f"{source}: no family '{FAMILY}', and its features can be computed from square fields only, not "
            f"{height} x {width}"
        )
    blocks = [describe(block) for block in fields.blocks()]
    values = [np.stack(list(columns.values()), axis=1) for columns in blocks]
    return tuple(blocks[0]), np.concatenate(values)
