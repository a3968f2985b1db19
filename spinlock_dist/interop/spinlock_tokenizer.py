"""A model of Spinlock's as a tokenizer of ours: on the same columns, cleaned and normalized as it saw them.

Legend: N rows, D columns, K of them in a category.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.compression.characteristics import characterize
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.data.initial_family import completed
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable, require_families
from spinlock_dist.device import resolve_device
from spinlock_dist.errors import CheckpointError, DataError
from spinlock_dist.features.cleaning import Cleaning, LedgerEntry
from spinlock_dist.features.encoders.fitted import FittedEncoder
from spinlock_dist.features.encoders.identity import IdentityEncoder
from spinlock_dist.features.normalization import Normalization
from spinlock_dist.features.pipeline import FeaturePipeline
from spinlock_dist.interop.spinlock_checkpoint import HYBRID, SpinlockCheckpoint
from spinlock_dist.interop.spinlock_encoders import fitted
from spinlock_dist.interop.spinlock_model import CONFIG, SpinlockVQVAE
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.prepare import fingerprint
from spinlock_dist.split import Split, split_rows
from spinlock_dist.tokenizer import Tokenizer

UNUSED = ("partial_decoders.", "initial_encoder.")
"""Weights that the model does not need once its features are encoded."""
TRAIN_SHARE = 0.9
SAME = 0.01
"""How far, in units of its scale, a column's mean may be off and still be the training's."""


def its_table(checkpoint: SpinlockCheckpoint, dataset: str | None) -> FeatureTable:
    """Its own dataset, as many rows as it took, or all of another. Raises `DataError` unless all families are there."""
    source = dataset or checkpoint.dataset
    if source is None:
        raise DataError(f"{checkpoint.path}: names no dataset; use --dataset FILE")
    families = {family: IdentityEncoder() for family in checkpoint.encoders}
    rows = None if dataset else checkpoint.max_samples
    try:
        table = load_table(PrepareConfig(dataset=source, families=families, max_samples=rows))
    except DataError as error:
        hint = "" if dataset else "; --dataset FILE names it where it is now"
        raise DataError(f"{error}{hint}") from None
    require_families(list(families), list(table.columns), table.source)
    return table


def its_split(checkpoint: SpinlockCheckpoint, rows: int) -> Split:
    """The rows it trained on and those it validated on: a permutation by its seed. There are no test rows."""
    order = np.random.RandomState(checkpoint.seed).permutation(rows)
    train, validation = np.sort(order[: int(TRAIN_SHARE * rows)]), np.sort(order[int(TRAIN_SHARE * rows) :])
    return Split(train=train, validation=validation, test=order[:0], folds=(validation,))


def as_tokenizer(checkpoint: SpinlockCheckpoint, table: FeatureTable, device: str = "auto") -> Tokenizer:
    """The model with all that comes before it. Its cleaning clips at percentiles of the rows it is given, which the
    checkpoint does not hold: they are those of `table`.

    Raises `CheckpointError` or `DataError` if the columns are not those that it was trained on.
    """
    pipeline, categories = _pipeline(checkpoint, table)
    cleaned = pipeline.clean(table)
    layout = GroupLayout(categories, resolve_device(device))
    ratios = checkpoint.dims / np.array([len(category) for category in categories])[:, None]
    plan = CapacityPlan(ratios, checkpoint.dims, checkpoint.codes[..., None])
    weights = {name: tensor for name, tensor in checkpoint.weights.items() if not name.startswith(UNUSED)}
    used = sorted(column for own in checkpoint.columns.values() for column in own)
    for name in ("shared_decoder.3.weight", "shared_decoder.3.bias"):
        weights[name] = weights[name][used]
    config = TrialConfig(model=CONFIG, prepare=PrepareConfig(dataset=table.source))
    tokenizer = Tokenizer(
        config=config,
        model=SpinlockVQVAE(layout, plan, weights, list(checkpoint.columns)),
        pipeline=pipeline,
        categories=categories,
        characteristics=tuple(characterize(cleaned[:, each.columns], each.name) for each in categories),
        fingerprint="",
    )
    if not _is_same(checkpoint, pipeline, cleaned):
        return tokenizer
    with suppress(DataError):
        rows = split_rows(len(table), config.prepare.split)
        values = pipeline.normalize(cleaned)
        mark = fingerprint(values, pipeline.feature_names, rows, categories, config.prepare)
        return replace(tokenizer, fingerprint=mark)
    return tokenizer


def _pipeline(checkpoint: SpinlockCheckpoint, table: FeatureTable) -> tuple[FeaturePipeline, tuple[Category, ...]]:
    """Encoders, cleaning and normalization, and the categories among the columns that are in one."""
    encoders = {
        family: fitted(family, theirs, table.names[family], table.columns[family].ndim)
        for family, theirs in checkpoint.encoders.items()
    }
    try:
        table = completed(table, {family: encoder.config for family, encoder in encoders.items()})
        encoded = {family: each.encode(table.columns[family], table.fields) for family, each in encoders.items()}
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{checkpoint.path}: an encoder does not fit {table.source}: {reason}") from None
    raw_ND = np.concatenate(list(encoded.values()), axis=1)
    names = [(f"{family}::{name}", family) for family, encoder in encoders.items() for name in encoder.names]
    inside = _inside(checkpoint, encoders)
    kept = _kept(checkpoint, inside, table.source)
    used = sorted(column for own in checkpoint.columns.values() for column in own)
    center, scale = _statistics(checkpoint, inside[kept])
    pipeline = FeaturePipeline(
        encoders=encoders,
        cleaning=_cleaning(checkpoint, raw_ND, kept[used], names),
        normalization=Normalization(
            "robust" if checkpoint.robust else "standard", {"center": center[used], "scale": scale[used]}
        ),
    )
    place = {column: at for at, column in enumerate(used)}
    categories = tuple(
        Category(category, tuple(place[column] for column in own)) for category, own in checkpoint.columns.items()
    )
    return pipeline, categories


def _inside(checkpoint: SpinlockCheckpoint, encoders: dict[str, FittedEncoder]) -> np.ndarray:
    """Which of the encoded columns `[D]` come of a CNN that trained with the model: the last of their family."""
    parts = []
    for family, encoder in encoders.items():
        own = np.zeros(len(encoder.names), dtype=bool)
        if checkpoint.encoders[family].name in HYBRID:
            own[len(own) - checkpoint.inside :] = True
        parts.append(own)
    return np.concatenate(parts)


def _kept(checkpoint: SpinlockCheckpoint, inside_D: np.ndarray, source: str) -> np.ndarray:
    """The encoded columns that the model takes. Raises `DataError` if it was trained on another number of them."""
    kept_D = np.ones(len(inside_D), dtype=bool)
    before = int((~inside_D).sum())
    expected = checkpoint.width - checkpoint.inside if checkpoint.kept is None else len(checkpoint.kept)
    if before != expected:
        raise DataError(f"{source}: gives {before} columns, and {checkpoint.path} was trained on {expected}")
    if checkpoint.kept is not None:
        kept_D[~inside_D] = checkpoint.kept
    return np.flatnonzero(kept_D)


def _statistics(checkpoint: SpinlockCheckpoint, inside_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center and scale `[K]` of the columns that the model takes; outputs of its own CNN it takes as they are."""
    center, scale = np.zeros(len(inside_K)), np.ones(len(inside_K))
    number = np.flatnonzero(~inside_K)
    for category, own in checkpoint.encoded.items():
        center[number[own]], scale[number[own]] = checkpoint.center[category], checkpoint.scale[category]
    return center, scale


def _cleaning(
    checkpoint: SpinlockCheckpoint, raw_ND: np.ndarray, columns: np.ndarray, names: list[tuple[str, str]]
) -> Cleaning:
    """Zeros for what is missing, then clipping as its settings say, at the percentiles of these rows."""
    missing_NK = ~np.isfinite(raw_ND[:, columns])
    x_NK = np.where(missing_NK, 0.0, raw_ND[:, columns])
    low, high = _limits(checkpoint, x_NK)
    as_it_is = [checkpoint.encoders[names[column][1]].name in HYBRID for column in columns]
    low, high = np.where(as_it_is, -np.inf, low), np.where(as_it_is, np.inf, high)
    imputed, clipped = missing_NK.sum(axis=0), (((x_NK < low) | (x_NK > high)) & ~missing_NK).sum(axis=0)
    place = {int(column): at for at, column in enumerate(columns)}
    ledger = tuple(
        LedgerEntry(
            feature=name,
            family=family,
            dropped=None if column in place else "unmapped",
            detail="" if column in place else "in no category",
            imputed=int(imputed[place[column]]) if column in place else 0,
            clipped=int(clipped[place[column]]) if column in place else 0,
        )
        for column, (name, family) in enumerate(names)
    )
    return Cleaning(columns=columns, median=np.zeros(len(columns)), low=low, high=high, ledger=ledger)


def _limits(checkpoint: SpinlockCheckpoint, x_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where values are cut off, per column: by percentiles, quartiles or the median's absolute deviation."""
    settings = checkpoint.cleaning
    if not settings:
        return np.full(x_NK.shape[1], -np.inf), np.full(x_NK.shape[1], np.inf)
    if settings["outlier_method"] == "percentile":
        low, high = np.percentile(x_NK, settings["percentile_range"], axis=0)
        return low, high
    if settings["outlier_method"] == "iqr":
        q1, q3 = np.percentile(x_NK, (25, 75), axis=0)
        reach = settings["iqr_multiplier"] * (q3 - q1)
        return q1 - reach, q3 + reach
    median = np.median(x_NK, axis=0)
    mad = np.median(np.abs(x_NK - median), axis=0)
    reach = settings["mad_threshold"] * np.where(mad < 1e-10, np.maximum(np.abs(median) * 0.01, 1e-6), mad)
    return median - reach, median + reach


def _is_same(checkpoint: SpinlockCheckpoint, pipeline: FeaturePipeline, cleaned_NK: np.ndarray) -> bool:
    """Whether these rows have the statistics that it normalized by."""
    center, scale = (pipeline.normalization.arrays[name] for name in ("center", "scale"))
    middle = np.median(cleaned_NK, axis=0) if checkpoint.robust else cleaned_NK.mean(axis=0)
    taken_as_it_is = (center == 0) & (scale == 1)
    return bool((taken_as_it_is | (np.abs(middle - center) <= SAME * scale)).all())
