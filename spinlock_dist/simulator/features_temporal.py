"""The family `temporal`: one value per step, averaged over realizations. Groups return `{name: [T, B]}`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from spinlock_dist.simulator.recording import Recording

Group = Callable[[Recording], dict[str, Tensor]]


def field(recording: Recording) -> dict[str, Tensor]:
    """Every series of the recording, averaged over realizations and channels."""
    return {name: value.mean((1, 3)) for name, value in recording.series.items()}


def channel(recording: Recording) -> dict[str, Tensor]:
    """Mean and standard deviation of each channel, and the channels' correlations."""
    columns = {
        f"{name}_{index}": recording.series[name][..., index].mean(1)
        for name in ("mean", "std")
        for index in range(recording.frames.shape[3])
    }
    deviation = recording.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    correlation = recording.covariance / (deviation[..., None] * deviation[..., None, :])
    for one, other in ((0, 1), (1, 2), (0, 2)):
        columns[f"correlation_{one}_{other}"] = correlation[..., one, other].mean(1)
    return columns


def realization(recording: Recording) -> dict[str, Tensor]:
    """Spread of the energy over realizations."""
    return {"energy_realization_std": recording.series["energy"].mean(-1).std(1, correction=0)}


TEMPORAL_GROUPS: dict[str, Group] = {group.__name__: group for group in (field, channel, realization)}
