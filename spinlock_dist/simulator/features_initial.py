"""The family `initial`: statistics of the initial fields `[B, C, H, W]`, averaged over channels.

A group returns `{name: [B]}`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.simulator import fields

Group = Callable[[Tensor], dict[str, Tensor]]


def distribution(initial: Tensor) -> dict[str, Tensor]:
    """Moments, extremes and entropy of the cell values."""
    columns = fields.moments(initial)
    columns["entropy"] = fields.histogram_entropy(initial)
    return _over_channels(columns)


def spectral(initial: Tensor) -> dict[str, Tensor]:
    """Shape of the power spectrum, gradient energy, anisotropy, and the share of the lowest quarter of wavenumbers."""
    spectrum = fields.spectrum(initial)
    across, along = spectrum.gradient_across, spectrum.gradient_along
    shells = spectrum.shells
    columns = fields.spectral_shape(shells)
    columns["low_share"] = fields.band_power(shells, 4)[0] / shells.sum(-1)
    columns["gradient_energy"] = across + along
    columns["anisotropy"] = (across - along) / (across + along)
    return _over_channels(columns)


def morphology(initial: Tensor) -> dict[str, Tensor]:
    """Shape of the set above the mean, and its peaks."""
    columns = fields.excursion_set(initial)
    columns["local_maxima"] = fields.local_maxima(initial)
    columns["total_variation"] = fields.total_variation(initial)
    return _over_channels(columns)


def channel(initial: Tensor) -> dict[str, Tensor]:
    """How strongly the channels are correlated."""
    pair = fields.correlation(initial, initial.roll(-1, 1))
    return {"correlation": pair.mean(-1)}


INITIAL_GROUPS: dict[str, Group] = {group.__name__: group for group in (distribution, spectral, morphology, channel)}


def describe(initial: np.ndarray) -> dict[str, np.ndarray]:
    """Every column `[B]` of the family by its name `<group>_<feature>`, for square fields `[B, C, H, W]`."""
    groups = {name: group(torch.from_numpy(initial)) for name, group in INITIAL_GROUPS.items()}
    return {f"{name}_{feature}": column.numpy() for name, group in groups.items() for feature, column in group.items()}


def _over_channels(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.mean(-1) for name, value in columns.items()}
