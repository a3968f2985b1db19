"""temporal_stats: readable statistics of time series.

Legend: N rows, T time steps, D channels.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.features.encoders.base import Arrays, Encoder

STATISTICS = ("mean", "std", "min", "max", "trend", "autocorrelation")

# Rows per block: keeps the temporaries, several times the size of the series, out of the memory budget.
_BLOCK = 256


class TemporalStats(Encoder):
    """Readable statistics of every channel of a `[N, T, D]` family: mean, std, trend, extremes, autocorrelation."""

    encoder: Literal["temporal_stats"] = "temporal_stats"
    axes: ClassVar[int] = 3

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """`channel.statistic` for each channel in turn."""
        return tuple(f"{column}.{statistic}" for column in columns for statistic in STATISTICS)

    def encode(self, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
        """See `statistics`."""
        return statistics(values)


def statistics(x_NTD: np.ndarray) -> np.ndarray:
    """`[N, D * 6]` float64: the statistics of each channel over its observed (finite) steps.

    mean, std (of the population), min, max; trend: least-squares slope against time running from 0 to 1, so in units
    of the channel per series; autocorrelation: lag 1, sum of products of neighbouring deviations / sum of squared
    deviations, 0 for a constant series. A series without any value gives NaN.
    """
    blocks = [_statistics(x_NTD[start : start + _BLOCK]) for start in range(0, len(x_NTD), _BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty((0, x_NTD.shape[2] * len(STATISTICS)))


def _statistics(x_NTD: np.ndarray) -> np.ndarray:
    x_NTD = x_NTD.astype(np.float64)
    observed = np.isfinite(x_NTD)
    count = np.where(observed.any(axis=1), observed.sum(axis=1), np.nan)
    lowest = np.where(observed, x_NTD, np.inf).min(axis=1)
    highest = np.where(observed, x_NTD, -np.inf).max(axis=1)
    # Deviations from the lowest value first: a constant series is then exactly zero, whatever its scale.
    shifted = np.where(observed, x_NTD - np.where(np.isfinite(lowest), lowest, 0.0)[:, None], 0.0)
    offset = shifted.sum(axis=1) / count
    deviation = np.where(observed, shifted - offset[:, None], 0.0)
    energy = (deviation**2).sum(axis=1)
    trend = _slope(deviation, observed, count)
    products = (deviation[:, 1:] * deviation[:, :-1]).sum(axis=1)
    autocorrelation = np.divide(products, energy, out=np.zeros_like(energy), where=energy > 0)
    columns = [lowest + offset, np.sqrt(energy / count), lowest, highest, trend, autocorrelation]
    stacked = np.stack(columns, axis=-1)
    stacked[np.isnan(count)] = np.nan
    return stacked.reshape(len(x_NTD), -1)


def _slope(deviation: np.ndarray, observed: np.ndarray, count: np.ndarray) -> np.ndarray:
    time = np.linspace(0.0, 1.0, deviation.shape[1])[:, None]
    mean_time = (time * observed).sum(axis=1) / count
    centred = np.where(observed, time - mean_time[:, None], 0.0)
    energy = (centred**2).sum(axis=1)
    return np.divide((centred * deviation).sum(axis=1), energy, out=np.zeros_like(energy), where=energy > 0)
