"""Finite scalar quantization: every latent dimension is rounded to one of a few values. Nothing is learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.quantizers.base import Quantized, Quantizer, straight_through

CANDIDATE_SCALES = torch.linspace(0.4, 3.0, 27)
"""Distances between two values, in standard deviations, of which the start takes the best (about 1.6 for 2 values of
a normal, 1.0 for 4: Max 1960)."""


class FSQ(Quantizer):
    """`config.fsq_levels` values on a bounded grid in each of d dimensions, so levels ** d codes (Mentzer et al. 2024).

    A latent dimension of scale s becomes s * round(h * tanh(z / (s h))), h = (levels - 1) / 2, on half-integers if
    `levels` is even: codes are in the latent's own units. A token is the number whose digits are the grid positions.
    """

    scale_MGZ: Tensor
    place_MGZ: Tensor

    def __init__(self, dims_MG: Tensor, codes_MGS: Tensor, config: QuantizerConfig):
        super().__init__(dims_MG, codes_MGS, config)
        self.reach = (config.fsq_levels - 1) / 2
        digits_MG = torch.log(self.codes_MGS[..., 0]) / math.log(config.fsq_levels)
        used_MGZ = torch.arange(int(dims_MG.max())) < digits_MG.round()[..., None]
        place_Z = config.fsq_levels ** torch.arange(used_MGZ.shape[-1])
        self.register_buffer("scale_MGZ", used_MGZ.float())
        self.register_buffer("place_MGZ", place_Z * used_MGZ, persistent=False)

    def forward(self, latent_MGBZ: Tensor) -> Quantized:
        """Bound and round every latent."""
        bounded_MGBZ = self._bound(latent_MGBZ, self.scale_MGZ[:, :, None])
        grid_MGBZ = self._round(bounded_MGBZ.detach())
        digits_MGBZ = (grid_MGBZ + self.reach).round().long()
        tokens_MGBS = (digits_MGBZ * self.place_MGZ[:, :, None]).sum(dim=-1, keepdim=True)
        scale_MGBZ = self.scale_MGZ[:, :, None]
        codes_MGBZ = grid_MGBZ * scale_MGBZ
        inputs_MGBZ = bounded_MGBZ * scale_MGBZ
        return Quantized(inputs_MGBZ, codes_MGBZ, straight_through(inputs_MGBZ, codes_MGBZ), tokens_MGBS, [])

    def _bound(self, latent: Tensor, scale: Tensor) -> Tensor:
        return self.reach * torch.tanh(latent / (scale * self.reach).clamp(min=1e-12))

    def _round(self, bounded: Tensor) -> Tensor:
        even = self.config.fsq_levels % 2 == 0
        return torch.floor(bounded) + 0.5 if even else torch.round(bounded)

    def lookup(self, tokens_MGBS: Tensor) -> Tensor:
        """The codes `[M, G, B, Z]` of tokens: their digits, as grid positions."""
        place_MGBZ = self.place_MGZ[:, :, None]
        digits_MGBZ = (tokens_MGBS // place_MGBZ.clamp(min=1)) % self.config.fsq_levels
        return (digits_MGBZ - self.reach) * self.scale_MGZ[:, :, None]

    def draws(self, member: int, group: int) -> int:
        """None: nothing is drawn."""
        return 0

    @torch.no_grad()
    def start_from_data(
        self, latent_MGNZ: Tensor, draws_MG: Sequence[Sequence[np.ndarray]], batch_size: int, compiled: bool
    ) -> Tensor:
        """Choose each dimension's scale for the least squared error on these latents; return them quantized."""
        std_MGZ = latent_MGNZ.std(dim=2, unbiased=False)
        used_MGZ = self.place_MGZ > 0
        error_MGZ = torch.full_like(std_MGZ, torch.inf)
        for candidate in CANDIDATE_SCALES.tolist():
            scale_MGZ = torch.where(std_MGZ > 0, candidate * std_MGZ, 1.0) * used_MGZ
            tried_MGZ = (self._quantize(latent_MGNZ, scale_MGZ) - latent_MGNZ).square().sum(dim=2)
            better_MGZ = tried_MGZ < error_MGZ
            self.scale_MGZ.copy_(torch.where(better_MGZ, scale_MGZ, self.scale_MGZ))
            error_MGZ = torch.where(better_MGZ, tried_MGZ, error_MGZ)
        return self._quantize(latent_MGNZ, self.scale_MGZ)

    def _quantize(self, latent_MGNZ: Tensor, scale_MGZ: Tensor) -> Tensor:
        scale_MG1Z = scale_MGZ[:, :, None]
        return self._round(self._bound(latent_MGNZ, scale_MG1Z)) * scale_MG1Z

    def start_from_noise(self, member: int, group: int, generator: Generator) -> None:
        """Leave every scale at 1: nothing is drawn."""

    def update(self, quantized: Quantized, alive_M: Tensor, expire: bool) -> None:
        """Nothing moves."""
