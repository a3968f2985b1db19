"""Starting a quantizer on latents of all its members."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from spinlock_dist.model.quantizers import Quantizer


def start_on(
    quantizer: Quantizer, latent_MGNZ: Tensor, seeds: Sequence[int], batch_size: int, compiled: bool = False
) -> Tensor:
    """Fit all groups of all members, each member by its own seed; return the latents quantized, `[M, G, N, Z]`."""
    streams = [np.random.default_rng(seed) for seed in seeds]
    draws = [
        [stream.random(quantizer.draws(member, group)) for group in range(latent_MGNZ.shape[1])]
        for member, stream in enumerate(streams)
    ]
    return quantizer.start_from_data(latent_MGNZ, draws, batch_size, compiled)
