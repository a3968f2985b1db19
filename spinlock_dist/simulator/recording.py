"""What is seen of a batch of operators, and the statistics that several features share, each computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spinlock_dist.simulator import fields


@dataclass
class Recording:
    """B operators of one kind, observed after every step.

    Letters: T steps, R realizations, B operators, C channels, H x W cells, K wavenumber shells.
    """

    initial: Tensor
    """`[B, C, H, W]`: the observed start, common to all realizations."""
    frames: Tensor
    """`[T, R, B, C, H, W]`."""
    divergence: Tensor
    """`[S, B]`: distance of a perturbed twin after each of the first S steps / its initial distance."""

    @property
    def final(self) -> Tensor:
        """The last frames `[R, B, C, H, W]`."""
        return self.frames[-1]

    @cached_property
    def series(self) -> dict[str, Tensor]:
        """Moments, gradient energy, anisotropy and change of every frame, and its spectral shape, `[T, R, B, C]` each.

        `change` is the root mean square difference from the frame before.
        """
        before = [self.initial, *self.frames[:-1]]
        steps = [_measure(frame, previous) for frame, previous in zip(self.frames, before, strict=True)]
        return {name: torch.stack([step[name] for step in steps]) for name in steps[0]} | self._spectral_series()

    @cached_property
    def spectrum(self) -> fields.Spectrum:
        """Spectra of every frame; leading axes `[T, R, B, C]`."""
        parts = [fields.spectrum(frame) for frame in self.frames]  # frame by frame stays in cache
        return fields.Spectrum(
            *(torch.stack([getattr(part, name) for part in parts]) for name in fields.Spectrum.__dataclass_fields__)
        )

    @cached_property
    def covariance(self) -> Tensor:
        """Covariances of the channels over space in every frame, `[T, R, B, C, C]`."""
        return torch.stack([fields.channel_covariance(frame) for frame in self.frames])

    def _spectral_series(self) -> dict[str, Tensor]:
        across, along = self.spectrum.gradient_across, self.spectrum.gradient_along
        shape = {f"spectral_{name}": value for name, value in fields.spectral_shape(self.spectrum.shells).items()}
        return {"gradient_energy": across + along, "anisotropy": (across - along) / (across + along), **shape}


def _measure(frame: Tensor, before: Tensor) -> dict[str, Tensor]:
    return {**fields.moments(frame), "change": (frame - before).square().mean(fields.SPACE).sqrt()}
