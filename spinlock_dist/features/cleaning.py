"""Cleaning: which columns are kept, what stands for a missing value, and where values are cut off.

Legend: N rows, D raw columns, K kept columns, B columns of a block.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from spinlock_dist.config import CleaningConfig
from spinlock_dist.errors import DataError
from spinlock_dist.memory import require_memory

DropReason = Literal["unmapped", "missing", "constant", "unstable", "duplicate"]
Drops = dict[int, tuple[DropReason, str]]
"""Dropped columns with the reason and its figures."""

MIN_COLUMNS = 2
_HISTOGRAM_BINS = 64
_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What cleaning did to one column as its family's encoder gave it. Counts are of training rows."""

    feature: str
    """`family::feature`."""
    family: str
    dropped: DropReason | None
    """Why the feature was dropped; None if it was kept."""
    detail: str
    """The figures behind the decision, empty if kept."""
    imputed: int
    """Values that were missing or infinite."""
    clipped: int
    """Observed values beyond the clipping percentiles."""


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """Fitted cleaning: `columns` `[K]` indices of the kept raw columns, their `median`, `low` and `high` `[K]`."""

    columns: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ledger: tuple[LedgerEntry, ...]
    """One entry per raw column, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names `family::feature` of the K kept columns."""
        return tuple(entry.feature for entry in self.ledger if entry.dropped is None)

    @property
    def families(self) -> tuple[str, ...]:
        """Families of the K kept columns."""
        return tuple(entry.family for entry in self.ledger if entry.dropped is None)

    def apply(self, x_ND: np.ndarray) -> np.ndarray:
        """The kept columns `[N, K]` float64: missing values at the median, all within `low` and `high`."""
        x = np.asarray(x_ND[:, self.columns], dtype=np.float64)
        return np.clip(np.where(np.isfinite(x), x, self.median), self.low, self.high)

    def to_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays and the JSON-able rest from which `from_state` rebuilds this object."""
        arrays = {"columns": self.columns, "median": self.median, "low": self.low, "high": self.high}
        return arrays, {"ledger": [asdict(entry) for entry in self.ledger]}

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Cleaning:
        """Rebuild what `to_state` took apart."""
        return cls(**arrays, ledger=tuple(LedgerEntry(**entry) for entry in meta["ledger"]))


def fit_cleaning(
    x_ND: np.ndarray,
    names: tuple[str, ...],
    families: tuple[str, ...],
    config: CleaningConfig,
    only: Collection[str] | None = None,
) -> Cleaning:
    """Fit on training rows `[N, D]`; `names` are `family::feature`. Thresholds and order are Spinlock's:

    1. constant: standard deviation <= `min_std`, over the rows or once clipped; or no value at all (missing).
    2. unstable: variance > `max_variance` and std / |mean| > `max_variation`.
    3. duplicate: of two columns with |correlation| > `max_correlation` the less informative (`informativeness`).
    4. missing values to the median, then clipping to `clip_percentiles`.

    Of columns chosen before, `only`, just those are dropped that are constant or missing; all others go (unmapped).
    All statistics are in float64, over training rows with missing values already at the median: what the model sees.
    Raises `DataError` if fewer than two columns remain.
    """
    _require_memory(*x_ND.shape)
    missing = ~np.isfinite(x_ND)
    median = _medians(x_ND, missing)
    x = np.where(missing, median, x_ND)
    low, high = np.percentile(x, config.clip_percentiles, axis=0)
    drops = _constant(x, median, low, high, config) | _missing(missing)
    if only is None:
        drops = _unstable(x, median, config) | drops
        drops |= _duplicates(x, median, _remaining(x, drops), names, config.max_correlation)
    else:
        drops |= {column: ("unmapped", "in no category") for column, name in enumerate(names) if name not in only}
    kept = _remaining(x, drops)
    clipped = ((x < low) | (x > high)) & ~missing
    ledger = _ledger(names, families, drops, missing.sum(axis=0), clipped.sum(axis=0))
    _require_columns(ledger, len(kept), config)
    return Cleaning(columns=kept, median=median[kept], low=low[kept], high=high[kept], ledger=ledger)


def informativeness(x_NB: np.ndarray) -> np.ndarray:
    """Entropy x IQR x (1 - outlier share) per column `[B]`; higher is worth more. No column may be constant.

    entropy: bits of the histogram of 64 equal bins from minimum to maximum. IQR: in units of the standard deviation,
    so that a column and a multiple of it score the same. Outliers: beyond 1.5 IQR of the quartiles (Tukey 1977).
    The product is Spinlock's; it leaves the parts to the reader.
    """
    rows, columns = x_NB.shape
    low, high = x_NB.min(axis=0), x_NB.max(axis=0)
    bins = np.minimum(((x_NB - low) / (high - low) * _HISTOGRAM_BINS).astype(np.int64), _HISTOGRAM_BINS - 1)
    flat = (bins + _HISTOGRAM_BINS * np.arange(columns)).ravel()
    share = np.bincount(flat, minlength=columns * _HISTOGRAM_BINS).reshape(columns, -1) / rows
    entropy = -(share * np.log2(share, out=np.zeros_like(share), where=share > 0)).sum(axis=1)
    q1, q3 = np.percentile(x_NB, (25, 75), axis=0)
    fence = 1.5 * (q3 - q1)
    outliers = ((x_NB < q1 - fence) | (x_NB > q3 + fence)).mean(axis=0)
    return entropy * (q3 - q1) / (x_NB - low).std(axis=0) * (1 - outliers)


def _require_memory(rows: int, columns: int) -> None:
    """Copies of the table as float64, and one byte for every pair of columns."""
    require_memory(
        4 * 8 * rows * columns + columns**2,
        f"cleaning {rows} training rows of {columns} columns",
        DataError,
        "choose fewer columns, or fewer rows (prepare.max_samples)",
    )


def _medians(x_ND: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The median of the observed values per column, 0 where there are none."""
    observed = np.where(missing, np.nan, x_ND).astype(np.float64)
    observed[:, missing.all(axis=0)] = 0.0
    return np.nanmedian(observed, axis=0)


def _remaining(x: np.ndarray, drops: Drops) -> np.ndarray:
    return np.array([column for column in range(x.shape[1]) if column not in drops], dtype=np.int64)


def _missing(missing: np.ndarray) -> Drops:
    return {int(column): ("missing", "no value") for column in np.flatnonzero(missing.all(axis=0))}


def _constant(x: np.ndarray, median: np.ndarray, low: np.ndarray, high: np.ndarray, config: CleaningConfig) -> Drops:
    # About the median: the deviations of a constant column are then exactly zero, whatever its scale.
    std = (x - median).std(axis=0)
    clipped_std = (np.clip(x, low, high) - median).std(axis=0)
    return {
        int(column): ("constant", f"std {clipped_std[column]:.3g} once clipped, {std[column]:.3g} before")
        for column in np.flatnonzero(np.minimum(std, clipped_std) <= config.min_std)
    }


def _unstable(x: np.ndarray, median: np.ndarray, config: CleaningConfig) -> Drops:
    variance = (x - median).var(axis=0)
    std, mean = np.sqrt(variance), np.abs(x.mean(axis=0))
    unstable = (variance > config.max_variance) & (std > config.max_variation * mean)
    return {
        int(column): ("unstable", f"variance {variance[column]:.3g}, |mean| {mean[column]:.3g}")
        for column in np.flatnonzero(unstable)
    }


def _duplicates(
    x: np.ndarray, median: np.ndarray, candidates: np.ndarray, names: tuple[str, ...], threshold: float
) -> Drops:
    """The duplicates among the candidate columns.

    From the most informative column to the least, a column stays unless it duplicates one that already stays: so each
    dropped column has a kept one that stands for it. Equally informative columns go in column order.
    """
    unit = _unit_columns(x, median, candidates)
    scores = np.concatenate([np.empty(0), *(informativeness(x[:, block]) for block in _blocks(candidates))])
    is_near = _near_pairs(unit, threshold)
    stays = np.zeros(len(candidates), dtype=bool)
    drops: Drops = {}
    for place in np.argsort(-scores, kind="stable"):
        rivals = np.flatnonzero(is_near[place] & stays)
        if rivals.size == 0:
            stays[place] = True
            continue
        correlations = np.abs(unit[:, place] @ unit[:, rivals])
        best = int(np.argmax(correlations))
        twin = names[candidates[rivals[best]]]
        drops[int(candidates[place])] = ("duplicate", f"of {twin} at |corr| = {min(1.0, correlations[best]):.4f}")
    return drops


def _unit_columns(x: np.ndarray, median: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns centred and of length 1, so that their products are correlations."""
    centred = x[:, columns] - median[columns]
    centred -= centred.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=0)


def _near_pairs(unit: np.ndarray, threshold: float) -> np.ndarray:
    """`[D, D]` booleans: |correlation| > threshold. Block by block: only booleans are held for all pairs."""
    columns = unit.shape[1]
    near = np.empty((columns, columns), dtype=bool)
    for block in _blocks(np.arange(columns)):
        near[block] = np.abs(unit[:, block].T @ unit) > threshold
    return near


def _blocks(columns: np.ndarray) -> list[np.ndarray]:
    return [columns[start : start + _BLOCK] for start in range(0, len(columns), _BLOCK)]


def _ledger(
    names: tuple[str, ...], families: tuple[str, ...], drops: Drops, imputed: np.ndarray, clipped: np.ndarray
) -> tuple[LedgerEntry, ...]:
    entries = []
    for column, (name, family) in enumerate(zip(names, families, strict=True)):
        dropped, detail = drops.get(column, (None, ""))
        counts = {"imputed": int(imputed[column]), "clipped": int(clipped[column])}
        entries.append(LedgerEntry(feature=name, family=family, dropped=dropped, detail=detail, **counts))
    return tuple(entries)


def _require_columns(ledger: tuple[LedgerEntry, ...], kept: int, config: CleaningConfig) -> None:
    if kept >= MIN_COLUMNS:
        return
    reasons = [entry.dropped for entry in ledger if entry.dropped is not None]
    counts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    constant = f" (constant: std <= cleaning.min_std {config.min_std:g})" if "constant" in reasons else ""
    raise DataError(
        f"cleaning keeps {kept} of {len(ledger)} columns, {MIN_COLUMNS} are needed"
        f"{f' (dropped: {counts})' if counts else ''}; use a dataset with more varied columns{constant}"
    )
