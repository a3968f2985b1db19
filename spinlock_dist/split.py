"""Which rows train, which steer and which test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinlock_dist.config import SplitConfig
from spinlock_dist.errors import DataError
from spinlock_dist.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row indices of each part, each ascending; together they are a partition of the rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def part(self, name: str) -> np.ndarray:
        """The rows of `train`, `validation` or `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def split_rows(rows: int, config: SplitConfig) -> Split:
    """Partition `rows` rows by a permutation that `config.seed` decides; shares are rounded, no part is empty.

    With `search_seed`, test rows are drawn from all but the validation rows of that split, which steered a search.
    Raises `DataError` if nothing is left to train on.
    """
    validation = max(1, round(rows * config.validation))
    test = max(1, round(rows * config.test))
    train = rows - validation - test
    if train < 2:
        raise DataError(f"{rows} rows are too few for the shares of the split: {train} would be left to train on")
    order = np.random.default_rng(derive_seed(config.seed, "split")).permutation(rows)
    if config.search_seed is not None:
        earlier = split_rows(rows, config.model_copy(update={"seed": config.search_seed, "search_seed": None}))
        steered = np.isin(order, earlier.validation)
        drawn = np.flatnonzero(~steered)[:test]
        order = np.concatenate([np.delete(order, drawn), order[drawn]])
    parts = np.split(order, [train, train + validation])
    return Split(train=np.sort(parts[0]), validation=np.sort(parts[1]), test=np.sort(parts[2]))
