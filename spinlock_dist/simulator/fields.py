"""Statistics of periodic fields `[..., H, W]`, each reduced over space to `[...]`.

A statistic that is undefined on a field (the skewness of a constant one) is NaN there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SPACE = (-2, -1)
ENTROPY_BINS = 16


def moments(x: Tensor) -> dict[str, Tensor]:
    """Mean, standard deviation, skewness, excess kurtosis, extremes, and energy (mean square)."""
    mean = x.mean(SPACE)
    centred = x - mean[..., None, None]
    squares = centred * centred
    variance = squares.mean(SPACE)
    return {
        "mean": mean,
        "std": variance.sqrt(),
        "skewness": (squares * centred).mean(SPACE) / variance**1.5,
        "kurtosis": (squares * squares).mean(SPACE) / variance**2 - 3,
        "min": x.amin(SPACE),
        "max": x.amax(SPACE),
        "energy": variance + mean**2,
    }


def total_variation(x: Tensor) -> Tensor:
    """The mean absolute forward difference, both directions added."""
    return (x.roll(-1, -1) - x).abs().mean(SPACE) + (x.roll(-1, -2) - x).abs().mean(SPACE)


def laplacian(x: Tensor) -> Tensor:
    """The five-point Laplacian `[..., H, W]`, in units of cells ** -2."""
    total = x.roll(1, -1)
    for shift, axis in ((-1, -1), (1, -2), (-1, -2)):
        total += x.roll(shift, axis)
    return total.sub_(4 * x)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """The Pearson correlation over space of two fields."""
    x = x - x.mean(SPACE, keepdim=True)
    y = y - y.mean(SPACE, keepdim=True)
    return (x * y).mean(SPACE) / (x.square().mean(SPACE) * y.square().mean(SPACE)).sqrt()


def channel_covariance(x: Tensor) -> Tensor:
    """The covariances over space `[..., C, C]` of the channels of `[..., C, H, W]`."""
    cells = x.flatten(-2)
    cells = cells - cells.mean(-1, keepdim=True)
    return cells @ cells.transpose(-2, -1) / cells.shape[-1]


def quantiles(x: Tensor, shares: tuple[float, ...]) -> tuple[Tensor, ...]:
    """The given quantiles of the cells, linearly interpolated."""
    ordered = torch.from_numpy(np.sort(x.flatten(-2).numpy(), axis=-1))  # several times as fast as torch
    places = [share * (ordered.shape[-1] - 1) for share in shares]
    return tuple(
        torch.lerp(ordered[..., int(p)], ordered[..., min(int(p) + 1, ordered.shape[-1] - 1)], p % 1) for p in places
    )


def histogram_entropy(x: Tensor) -> Tensor:
    """The entropy in bits of a histogram of the cells in 16 equal bins from minimum to maximum."""
    cells = x.flatten(-2)
    low, high = cells.amin(-1, keepdim=True), cells.amax(-1, keepdim=True)
    bins = ((cells - low) / (high - low) * ENTROPY_BINS).nan_to_num(0).clamp(0, ENTROPY_BINS - 1).long()
    counts = torch.zeros(*cells.shape[:-1], ENTROPY_BINS).scatter_add_(-1, bins, torch.ones_like(cells))
    return entropy(counts)


def entropy(weights: Tensor) -> Tensor:
    """The entropy in bits of non-negative `weights` along the last axis, scaled to sum to 1."""
    shares = weights / weights.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1) / torch.log(torch.tensor(2.0))


# ---------------------------------------------------------------- spectra


@lru_cache
def wavenumbers(grid: int) -> Tensor:
    """|k| in waves per side `[H, W // 2 + 1]` for the layout of `rfft2`."""
    along = torch.fft.fftfreq(grid, 1 / grid)
    across = torch.fft.rfftfreq(grid, 1 / grid)
    return (along[:, None] ** 2 + across**2).sqrt()


@lru_cache
def _power_weights(grid: int) -> Tensor:
    """`[H * (W // 2 + 1), K + 2]` weights from |rfft2|**2 / cells to the columns of `Spectrum`.

    Shell i holds round(|k|) == i + 1, K = grid // 2; the corners beyond the last shell are added to it.
    The mean is left out.
    """
    shell = wavenumbers(grid).round().long().clamp(max=grid // 2)
    member = torch.nn.functional.one_hot(shell, grid // 2 + 1)[..., 1:].float()
    # The forward difference multiplies a mode by exp(i k) - 1, of squared magnitude 2 - 2 cos k (Parseval).
    along = (2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(grid)))[:, None] / grid**2
    across = (2 - 2 * torch.cos(2 * torch.pi * torch.fft.rfftfreq(grid))) / grid**2
    gradients = torch.stack(torch.broadcast_tensors(across, along), dim=-1)
    twice = torch.full((grid // 2 + 1, 1), 2.0)  # rfft2 keeps one of each pair of conjugate coefficients
    twice[0] = 1.0
    if grid % 2 == 0:
        twice[-1] = 1.0
    return (torch.cat([member, gradients], dim=-1) * twice).flatten(0, 1)


@dataclass(frozen=True)
class Spectrum:
    """What one Fourier transform of fields `[..., H, W]` tells."""

    shells: Tensor
    """Power |FFT|**2 / cells by integer wavenumber 1 .. K, `[..., K]`, K = grid // 2. Sums to cells * variance."""
    gradient_across: Tensor
    """Mean squared forward difference along a row, `[...]`."""
    gradient_along: Tensor
    """Mean squared forward difference along a column, `[...]`."""


def spectrum(x: Tensor) -> Spectrum:
    """The spectrum of fields `[..., H, W]`."""
    coefficients = torch.fft.rfft2(x, norm="ortho")
    power = coefficients.real.square() + coefficients.imag.square()
    columns = power.flatten(-2) @ _power_weights(x.shape[-1])
    return Spectrum(columns[..., :-2], columns[..., -2], columns[..., -1])


def spectral_shape(power: Tensor) -> dict[str, Tensor]:
    """Centroid and width (waves per side), entropy (bits) and log-log slope of shell power `[..., K]`."""
    k = torch.arange(1, power.shape[-1] + 1, dtype=power.dtype)
    shares = power / power.sum(-1, keepdim=True)
    centroid = (shares * k).sum(-1)
    log_k = k.log() - k.log().mean()
    log_power = torch.log(power + 1e-12)
    return {
        "centroid": centroid,
        "width": ((shares * k**2).sum(-1) - centroid**2).clamp(min=0).sqrt(),
        "entropy": entropy(power),
        "slope": (log_power * log_k).sum(-1) / log_k.square().sum(),
    }


def band_power(power: Tensor, bands: int) -> list[Tensor]:
    """Shell power `[..., K]` added up in bands of nearly equal numbers of shells, lowest first."""
    return [part.sum(-1) for part in torch.tensor_split(power, bands, dim=-1)]


# ---------------------------------------------------------------- morphology


def excursion_set(x: Tensor) -> dict[str, Tensor]:
    """Area share, perimeter per cell and Euler characteristic per cell of the cells above the mean.

    Euler characteristic of the union of closed cells: vertices - edges + faces (Gray 1971, by local counts).
    """
    above = x > x.mean(SPACE, keepdim=True)
    right, down = above.roll(-1, -1), above.roll(-1, -2)
    diagonal = down.roll(-1, -1)
    edges = (above | right).float().mean(SPACE) + (above | down).float().mean(SPACE)
    vertices = (above | right | down | diagonal).float().mean(SPACE)
    area = above.float().mean(SPACE)
    return {
        "area": area,
        "perimeter": (above ^ right).float().mean(SPACE) + (above ^ down).float().mean(SPACE),
        "euler": vertices - edges + area,
    }


def local_maxima(x: Tensor) -> Tensor:
    """The share of cells above all four neighbours."""
    peak = (x > x.roll(1, -1)) & (x > x.roll(-1, -1)) & (x > x.roll(1, -2)) & (x > x.roll(-1, -2))
    return peak.float().mean(SPACE)
