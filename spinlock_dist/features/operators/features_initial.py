"""The family `initial`: statistics of the start, averaged over channels. Groups return `{name: [B]}`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from spinlock_dist.features.operators import fields
from spinlock_dist.features.operators.recording import Recording

Group = Callable[[Recording], dict[str, Tensor]]


def distribution(recording: Recording) -> dict[str, Tensor]:
    """Moments, extremes and entropy of the cell values."""
    columns = fields.moments(recording.initial)
    columns["entropy"] = fields.histogram_entropy(recording.initial)
    return _over_channels(columns)


def spectral(recording: Recording) -> dict[str, Tensor]:
    """Shape of the power spectrum, gradient energy, anisotropy, and the share of the lowest quarter of wavenumbers."""
    spectrum = fields.spectrum(recording.initial)
    across, along = spectrum.gradient_across, spectrum.gradient_along
    shells = spectrum.shells
    columns = fields.spectral_shape(shells)
    columns["low_share"] = fields.band_power(shells, 4)[0] / shells.sum(-1)
    columns["gradient_energy"] = across + along
    columns["anisotropy"] = (across - along) / (across + along)
    return _over_channels(columns)


def morphology(recording: Recording) -> dict[str, Tensor]:
    """Shape of the set above the mean, and its peaks."""
    columns = fields.excursion_set(recording.initial)
    columns["local_maxima"] = fields.local_maxima(recording.initial)
    columns["total_variation"] = fields.total_variation(recording.initial)
    return _over_channels(columns)


def channel(recording: Recording) -> dict[str, Tensor]:
    """How strongly the channels are correlated."""
    pair = fields.correlation(recording.initial, recording.initial.roll(-1, 1))
    return {"correlation": pair.mean(-1)}


INITIAL_GROUPS: dict[str, Group] = {group.__name__: group for group in (distribution, spectral, morphology, channel)}


def _over_channels(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.mean(-1) for name, value in columns.items()}
