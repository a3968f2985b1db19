"""Family encoders: frozen maps from a family's raw values to feature columns, fitted on training rows only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from spinlock_dist.config import FamilyEncoder, IdentityEncoder, TemporalStats
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import missing_as_nan
from spinlock_dist.errors import ConfigError
from spinlock_dist.features.encoders import temporal_stats

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class FittedEncoder:
    """An encoder with what it learned. `columns` are the family's raw column names, `arrays` its fitted state."""

    config: FamilyEncoder
    columns: tuple[str, ...]
    arrays: Arrays

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the D' output columns, without the family."""
        return _KINDS[self.config.encoder].names(self.config, self.columns)

    def encode(self, values: np.ndarray, fields: Fields | None = None) -> np.ndarray:
        """Map raw `[N, D]` or `[N, T, D]` to `[N, D']` float64; every row on its own. Missing values may stay NaN.

        `fields` are the rows' initial fields, which `initial_hybrid` alone looks at, block by block. Raises
        `DataError` if they have another number of channels than those it was fitted on.
        """
        return _KINDS[self.config.encoder].encode(self.config, self.arrays, values, fields)

    def meta(self) -> dict[str, Any]:
        """Return what, with `arrays`, rebuilds this encoder; JSON-able."""
        return {"config": self.config.model_dump(mode="json"), "columns": list(self.columns)}

    @classmethod
    def from_meta(cls, meta: dict[str, Any], arrays: Arrays) -> FittedEncoder:
        """Rebuild the encoder that gave `meta` and `arrays`."""
        config: FamilyEncoder = TypeAdapter(FamilyEncoder).validate_python(meta["config"])
        return cls(config, tuple(meta["columns"]), arrays)


def default_encoder(values: np.ndarray) -> FamilyEncoder:
    """Return the encoder of a family for which the config names none: one that keeps names readable."""
    return TemporalStats() if values.ndim == 3 else IdentityEncoder()


def fit_encoder(
    family: str,
    config: FamilyEncoder,
    columns: tuple[str, ...],
    x_train: np.ndarray,
    fields: Fields | None = None,
) -> FittedEncoder:
    """Fit an encoder on training rows `[N, D]` or `[N, T, D]`, and on their initial fields if it looks at them.

    Raises `ConfigError` if it takes the other shape.
    """
    kind = _KINDS[config.encoder]
    if x_train.ndim != kind.axes:
        shapes = {2: "[N, D]", 3: "[N, T, D]"}
        raise ConfigError(
            f"families.{family}: encoder '{config.encoder}' takes {shapes[kind.axes]}, "
            f"the family is {shapes[x_train.ndim]}; use one of: {', '.join(_encoders_of(x_train.ndim))}"
        )
    return FittedEncoder(config, columns, kind.fit(config, family, x_train, fields))


class _Kind(NamedTuple):
    axes: int
    """Of the raw values: 2 for `[N, D]`, 3 for `[N, T, D]`."""
    names: Callable[[Any, tuple[str, ...]], tuple[str, ...]]
    fit: Callable[[Any, str, np.ndarray, Fields | None], Arrays]
    encode: Callable[[Any, Arrays, np.ndarray, Fields | None], np.ndarray]


def _nothing_to_fit(config: FamilyEncoder, family: str, x_train: np.ndarray, fields: Fields | None) -> Arrays:
    return {}


def _fit_network(config: Any, family: str, x_train: np.ndarray, fields: Fields | None) -> Arrays:
    from spinlock_dist.features.encoders import random_networks  # needs torch; the readable encoders do not

    return random_networks.fit(config, family, x_train)


def _encode_network(config: Any, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
    from spinlock_dist.features.encoders import random_networks

    return random_networks.encode(config, arrays, values)


def _fit_hybrid(config: Any, family: str, x_train: np.ndarray, fields: Fields | None) -> Arrays:
    from spinlock_dist.features.encoders import random_networks

    assert fields is not None  # a table without is refused before
    return random_networks.fit(config, family, fields)


def _encode_hybrid(config: Any, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
    from spinlock_dist.features.encoders import random_networks

    assert fields is not None
    return np.concatenate([missing_as_nan(values), random_networks.encode(config, arrays, fields)], axis=1)


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{column}" for column in range(count))


_KINDS: dict[str, _Kind] = {
    "identity": _Kind(
        2,
        lambda config, columns: columns,
        _nothing_to_fit,
        lambda config, arrays, values, fields: missing_as_nan(values),
    ),
    "temporal_stats": _Kind(
        3,
        lambda config, columns: temporal_stats.names(columns),
        _nothing_to_fit,
        lambda config, arrays, values, fields: temporal_stats.encode(values),
    ),
    "mlp": _Kind(2, lambda config, columns: _numbered("feature", config.output), _fit_network, _encode_network),
    "temporal_cnn": _Kind(
        3, lambda config, columns: _numbered("feature", config.embedding), _fit_network, _encode_network
    ),
    "initial_hybrid": _Kind(
        2, lambda config, columns: (*columns, *_numbered("cnn", config.embedding)), _fit_hybrid, _encode_hybrid
    ),
}


def _encoders_of(axes: int) -> list[str]:
    return [name for name, kind in _KINDS.items() if kind.axes == axes]
