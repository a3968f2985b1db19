"""Which rows train, which steer and which test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from spinlock_dist.config import SplitConfig
from spinlock_dist.errors import DataError
from spinlock_dist.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row indices of each part, each ascending; `train`, `validation` and `test` are a partition of the rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    folds: tuple[np.ndarray, ...]
    """The validation rows of each fold. Several are a partition of the rows that are no test rows."""

    def part(self, name: str) -> np.ndarray:
        """The rows of `train`, `validation` or `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def fold(self, number: int) -> Split:
        """One fold: its rows validate, those of the other folds train. Test rows are the same for all."""
        steering = np.concatenate([self.train, self.validation])
        validation = self.folds[number]
        return replace(
            self, train=np.sort(steering[~np.isin(steering, validation)]), validation=validation, folds=(validation,)
        )


def split_rows(rows: int, config: SplitConfig) -> Split:
    """Split `rows` rows by a permutation that `config.seed` decides, as fold 0; shares are rounded, no part is empty.

    Raises `DataError` if nothing is left to train on.
    """
    test = max(1, round(rows * config.test))
    steering = rows - test
    # With several folds, sizes that differ by one row at most; fold 0 lies last, before the test rows.
    sizes = [(steering + fold) // config.folds for fold in range(config.folds)]
    if config.folds == 1:
        sizes = [max(1, round(rows * config.validation_share))]
    if steering - max(sizes) < 2 or min(sizes) < 1:
        raise DataError(
            f"{rows} rows are too few for the shares of the split: {max(0, steering - max(sizes))} would be left to "
            "train on"
        )
    order = np.random.default_rng(derive_seed(config.seed, "split")).permutation(rows)
    ends = steering - np.cumsum([0, *sizes])
    folds = tuple(np.sort(order[last:first]) for first, last in pairwise(ends))
    return Split(
        train=np.sort(order[: steering - sizes[0]]),
        validation=folds[0],
        test=np.sort(order[steering:]),
        folds=folds,
    )
