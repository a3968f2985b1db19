"""What an encoder is: its settings, and the frozen map from a family's raw values to feature columns that they give."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spinlock_dist.config import FamilyEncoder
from spinlock_dist.data.initial_fields import Fields

Arrays = dict[str, np.ndarray]
"""Fitted state of an encoder, kept in a checkpoint."""


class Encoder(FamilyEncoder):
    """A family's encoder. One is a file in this package with such a class, and a line in `config.ENCODERS`."""

    axes: ClassVar[int] = 2
    """Of the raw values that it takes: 2 for `[N, D]`, 3 for `[N, T, D]`."""

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the D' output columns of raw `columns`, without the family."""
        raise NotImplementedError

    def fit(self, family: str, x_train: np.ndarray, fields: Fields | None) -> Arrays:
        """Fit to training rows `[N, D]` or `[N, T, D]`, and their initial fields if it `needs_fields`."""
        return {}

    def encode(self, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
        """Map raw values to `[N, D']` float64; every row on its own. Missing values may stay NaN."""
        raise NotImplementedError


def numbered(name: str, count: int) -> tuple[str, ...]:
    """`name_0`, `name_1`, ... for outputs that mean nothing by themselves."""
    return tuple(f"{name}_{column}" for column in range(count))


class NetworkEncoder(Encoder):
    """An encoder that is a random, frozen network. Its outputs are the features that the tokenizer reconstructs."""

    seed: int = 42
    calibrate: bool = True
    """Fit BatchNorm statistics on the training rows; false leaves them at initialization, as Spinlock does."""

    def network(self, inputs: int) -> Any:
        """The network for so many input columns or channels, a `torch.nn.Module` with weights yet to be drawn."""
        raise NotImplementedError

    def fit(self, family: str, x_train: np.ndarray, fields: Fields | None) -> Arrays:
        """Draw the weights by `seed` and the family's name; calibrate."""
        from spinlock_dist.features.encoders import random_networks  # needs torch; settings do not

        return random_networks.fit(self, family, x_train if fields is None else fields)

    def encode(self, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
        """Pass the values, or the fields if it needs them, through the network."""
        from spinlock_dist.features.encoders import random_networks

        return random_networks.encode(self, arrays, values if fields is None else fields)
