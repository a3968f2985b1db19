"""prepare: from a dataset to what every trial of a study shares, made once, on the driver."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinlock_dist.categories.category import Category
from spinlock_dist.categories.discovery import discover_categories
from spinlock_dist.categories.mapping import read_mapping, read_names
from spinlock_dist.compression.characteristics import Characteristics, characterize
from spinlock_dist.config import CategoriesConfig, PrepareConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.features.pipeline import FeaturePipeline, fit_pipeline
from spinlock_dist.split import Split, split_rows


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Normalized features with everything that was fitted (on `fitted_rows` alone) to make them.

    `values` is `[N, D]` float32, finite; `feature_names` are D names `family::feature`, `families` their D families;
    `categories` partition the D columns; `characteristics` holds one entry per category, computed on the rows
    that preparation is fitted on, before normalization, as the published rules do.
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

    def fold(self, number: int) -> PreparedData:
        """The same data with the training and validation rows of a fold."""
        return replace(self, split=self.split.fold(number))


def prepare(config: PrepareConfig) -> PreparedData:
    """Load, split, encode, clean, normalize, find categories, characterize them. The same config gives the same data.

    Everything fitted is fitted on `fitted_rows` alone, never on test rows. Raises `DataError` for a dataset that is
    missing, unreadable or cannot be learned from, `ConfigError` for settings that contradict the data.
    """
    table = load_table(config)
    split = split_rows(len(table), config.split)
    fitted = fitted_rows(split)
    pipeline, cleaned = fit_pipeline(table, fitted, config, _chosen_before(config.categories))
    values = pipeline.normalize(cleaned)
    categories = _categories(values[fitted], pipeline, config)
    cleaned_fitted = cleaned[fitted]
    return PreparedData(
        values=values,
        feature_names=pipeline.feature_names,
        families=pipeline.families,
        split=split,
        categories=categories,
        characteristics=tuple(characterize(cleaned_fitted[:, each.columns], each.name) for each in categories),
        pipeline=pipeline,
        config=config,
        fingerprint=fingerprint(values, pipeline.feature_names, split, categories, config),
    )


def fitted_rows(split: Split) -> np.ndarray:
    """The rows that cleaning, normalization and categories are fitted on.

    Folds share what is fitted, so that they have the same columns and errors can be pooled. With several folds it is
    fitted on all of them, which are all rows but the test rows; with one, on its training rows.
    """
    return split.train if len(split.folds) == 1 else np.sort(np.concatenate(split.folds))


def _categories(x_fitted: np.ndarray, pipeline: FeaturePipeline, config: PrepareConfig) -> tuple[Category, ...]:
    if config.categories.mapping is None:
        return discover_categories(x_fitted, config.categories)
    dropped = {entry.feature for entry in pipeline.cleaning.ledger if entry.dropped is not None}
    return read_mapping(config.categories.mapping, pipeline.feature_names, dropped, config.categories.only_mapped)


def _chosen_before(config: CategoriesConfig) -> set[str] | None:
    """The features that a mapping fixes, None where cleaning chooses them."""
    if not config.only_mapped or config.mapping is None:
        return None
    return {name for features in read_names(config.mapping).values() for name in features}


def fingerprint(
    values: np.ndarray,
    names: Sequence[str],
    split: Split,
    categories: Sequence[Category],
    config: PrepareConfig,
) -> str:
    """The SHA-256 of normalized values `[N, D]`, their names, split, categories and config."""
    # Where the data and the mapping lie does not count, their content does: values, names and categories are in.
    apart: Any = {"dataset": True, "linked_files": True, "simulator": True, "categories": {"mapping"}}
    settings = config.model_dump(mode="json", exclude=apart)
    labels = {
        "settings": settings,
        "shape": values.shape,
        "names": list(names),
        "categories": [[category.name, category.columns] for category in categories],
    }
    digest = hashlib.sha256(json.dumps(labels, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(values, dtype="<f4").tobytes())
    for rows in (split.train, *split.folds, split.test):
        digest.update(len(rows).to_bytes(8, "little") + rows.astype("<i8").tobytes())
    return digest.hexdigest()
