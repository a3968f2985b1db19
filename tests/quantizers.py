"""Starting a quantizer, group by group."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from spinlock_dist.model.quantizers import Quantizer


def start_on(quantizer: Quantizer, member: int, latent_GNZ: Tensor, generator: Generator, batch_size: int) -> Tensor:
    """Fit all groups of a member; return their latents quantized, `[G, N, Z]`."""
    return torch.stack(
        [
            quantizer.start_from_data(member, group, latent_NZ, generator, batch_size)
            for group, latent_NZ in enumerate(latent_GNZ)
        ]
    )
