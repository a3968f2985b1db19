"""Readable statistics of time series.

Legend: N rows, T time steps, D channels.
"""

from __future__ import annotations

import numpy as np

STATISTICS = ("mean", "std", "min", "max", "trend", "autocorrelation")

# Rows per block: keeps the temporaries, several times the size of the series, out of the memory budget.
_BLOCK = 256


def names(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return `channel.statistic` for each channel in turn."""
    return tuple(f"{column}.{statistic}" for column in columns for statistic in STATISTICS)


def encode(x_NTD: np.ndarray) -> np.ndarray:
    """Return `[N, D * 6]` float64: the statistics of each channel over its observed (finite) steps.

    mean, std (of the population), min, max; trend: least-squares slope against time running from 0 to 1, so in units
    of the channel per series; autocorrelation: lag 1, sum of products of neighbouring deviations / sum of squared
    deviations, 0 for a constant series. A series without any value gives NaN.
    """
    blocks = [_statistics(x_NTD[start : start + _BLOCK]) for start in range(0, len(x_NTD), _BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty((0, x_NTD.shape[2] * len(STATISTICS)))


def _statistics(x_NTD: np.ndarray) -> np.ndarray:
    x_NTD = x_NTD.astype(np.float64)
    seen = np.isfinite(x_NTD)
    count = np.where(seen.any(axis=1), seen.sum(axis=1), np.nan)
    lowest = np.where(seen, x_NTD, np.inf).min(axis=1)
    highest = np.where(seen, x_NTD, -np.inf).max(axis=1)
    # Deviations from the lowest value first: a constant series is then exactly zero, whatever its scale.
    shifted = np.where(seen, x_NTD - np.where(np.isfinite(lowest), lowest, 0.0)[:, None], 0.0)
    offset = shifted.sum(axis=1) / count
    deviation = np.where(seen, shifted - offset[:, None], 0.0)
    energy = (deviation**2).sum(axis=1)
    trend = _slope(deviation, seen, count)
    products = (deviation[:, 1:] * deviation[:, :-1]).sum(axis=1)
    autocorrelation = np.divide(products, energy, out=np.zeros_like(energy), where=energy > 0)
    columns = [lowest + offset, np.sqrt(energy / count), lowest, highest, trend, autocorrelation]
    stacked = np.stack(columns, axis=-1)
    stacked[np.isnan(count)] = np.nan
    return stacked.reshape(len(x_NTD), -1)


def _slope(deviation: np.ndarray, seen: np.ndarray, count: np.ndarray) -> np.ndarray:
    time = np.linspace(0.0, 1.0, deviation.shape[1])[:, None]
    mean_time = (time * seen).sum(axis=1) / count
    centred = np.where(seen, time - mean_time[:, None], 0.0)
    spread = (centred**2).sum(axis=1)
    return np.divide((centred * deviation).sum(axis=1), spread, out=np.zeros_like(spread), where=spread > 0)
