"""Initial fields: one function a type, `(parameters, grid, generator) -> [B, C, H, W]`, of about unit variance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from spinlock_dist.simulator.fields import wavenumbers
from spinlock_dist.simulator.parameters import INITIAL_CONDITIONS, Parameters

CHANNELS = 3
BLOBS = 6
WAVES = 3
SPIKE_LEVEL = 2.5
"""Standard deviations above which white noise is kept as a spike: about 1 % of the cells."""


def white_noise(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """Independent Gaussian cells."""
    return torch.randn(len(parameters), CHANNELS, grid, grid, generator=generator)


def random_field(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """Gaussian random field whose power spectrum falls as wavenumber ** -slope."""
    return _coloured(white_noise(parameters, grid, generator), parameters["slope"])


def multiscale(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """A smooth random field with a rough one of half its amplitude on top."""
    smooth = _coloured(white_noise(parameters, grid, generator), parameters["slope"] + 1.5)
    rough = _coloured(white_noise(parameters, grid, generator), parameters["slope"] - 1.0)
    return (smooth + 0.5 * rough) / 1.25**0.5


def blobs(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """Gaussian bumps of either sign at random places; not centred."""
    shape = (len(parameters), CHANNELS, BLOBS)
    heights = torch.randn(shape, generator=generator)
    rows, columns = (_bumps(torch.rand(shape, generator=generator), parameters["length"], grid) for _ in range(2))
    return torch.einsum("bcn,bcnh,bcnw->bchw", heights, rows, columns)


def plane_waves(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """Sum of periodic plane waves of about the wavelength `length` in random directions."""
    return sum(_plane_wave(parameters, grid, generator) for _ in range(WAVES)) * (2 / WAVES) ** 0.5


def stripes(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """The sign of a plane wave: sharp edges."""
    return torch.where(_plane_wave(parameters, grid, generator) > 0, 1.0, -1.0)


def spikes(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """A few extreme cells on an empty field."""
    noise = white_noise(parameters, grid, generator)
    return torch.where(noise.abs() > SPIKE_LEVEL, 2 * noise, 0.0)


InitialCondition = Callable[[Parameters, int, Generator], Tensor]
TYPES: dict[str, InitialCondition] = {
    function.__name__: function
    for function in (random_field, multiscale, white_noise, blobs, plane_waves, stripes, spikes)
}
assert set(TYPES) == set(INITIAL_CONDITIONS)


def draw_initial_fields(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    """Initial fields `[B, C, H, W]`: each operator's own type, channel mix, amplitude and offset."""
    fields = torch.empty(len(parameters), CHANNELS, grid, grid)
    labels = parameters.labels("initial_condition", INITIAL_CONDITIONS)
    for name in INITIAL_CONDITIONS:
        index = [row for row, label in enumerate(labels) if label == name]
        if index:
            fields[index] = TYPES[name](parameters.rows(index), grid, generator)
    fields = (1 - 0.5 * parameters["coupling"]) * fields + 0.5 * parameters["coupling"] * fields.roll(1, 1)
    return parameters["amplitude"] * (fields + parameters["offset"])


def _coloured(noise: Tensor, slope: Tensor) -> Tensor:
    k = wavenumbers(noise.shape[-1])
    gain = torch.where(k > 0, k.clamp(min=1) ** (-slope / 2), 0.0)
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * gain, s=noise.shape[-2:])
    return field / field.std((-2, -1), keepdim=True)


def _bumps(centres: Tensor, width: Tensor, grid: int) -> Tensor:
    """Periodic Gaussian profiles `[B, C, n, grid]` about `centres` (in sides of the grid)."""
    x = torch.arange(grid) / grid
    distance = (x - centres[..., None] + 0.5) % 1 - 0.5
    return torch.exp(-0.5 * (distance / width) ** 2)


def _plane_wave(parameters: Parameters, grid: int, generator: Generator) -> Tensor:
    shape = (len(parameters), CHANNELS, 1, 1)
    direction, phase = (2 * torch.pi * torch.rand(shape, generator=generator) for _ in range(2))
    count = 0.5 / parameters["length"]  # whole waves per side keep the field periodic
    across, along = (count * direction.cos()).round(), (count * direction.sin()).round()
    x = 2 * torch.pi * torch.arange(grid) / grid
    return torch.cos(along * x[:, None] + across * x + phase)
