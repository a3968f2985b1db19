"""prepare: from a dataset to what every trial of a study shares, made once, on the driver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.config import PrepareConfig
from spinlock_dist.features.pipeline import FeaturePipeline


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row indices of each part, each ascending; together they are a partition of the rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def part(self, name: str) -> np.ndarray:
        """Return the rows of `train`, `validation` or `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Normalized features with everything that was fitted (on the training rows alone) to make them.

    `values` is `[N, D]` float32, finite; `feature_names` are D names `family::feature`, `families` their D families;
    `categories` partition the D columns; `characteristics` holds one entry per category, computed on the training
    rows before normalization, as the published rules do.
    """

    values: np.ndarray
    feature_names: tuple[str, ...]
    families: tuple[str, ...]
    split: Split
    categories: tuple[Category, ...]
    characteristics: tuple[Characteristics, ...]
    pipeline: FeaturePipeline
    config: PrepareConfig
    fingerprint: str
    """SHA-256 of values, split, categories and config."""
