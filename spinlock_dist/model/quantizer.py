"""Vector quantizer with an exponential-moving-average codebook, batched over members and groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.kmeans import kmeans


@dataclass(frozen=True)
class Quantized:
    """`latent_MGBZ` as given, the nearest codes `codes_MGBZ`, their `tokens_MGB`, and `straight_MGBZ`, whose value
    is the codes and whose gradient is the latent's (straight-through, Bengio et al. 2013)."""

    latent_MGBZ: Tensor
    codes_MGBZ: Tensor
    straight_MGBZ: Tensor
    tokens_MGB: Tensor


class EMAQuantizer(nn.Module):
    """One codebook per member and group (van den Oord et al. 2017, appendix A.1).

    `dims_MG` and `codes_MG` are the sizes in use; the rest is padding: its dimensions stay zero, its codes are never
    chosen. Codebooks are buffers, moved by the moving average alone.
    """

    codebook_MGKZ: Tensor
    size_MGK: Tensor
    sum_MGKZ: Tensor
    unused_MGK: Tensor

    def __init__(self, dims_MG: Tensor, codes_MG: Tensor, config: QuantizerConfig):
        super().__init__()
        self.config = config
        self.dims_MG, self.codes_MG = dims_MG.cpu(), codes_MG.cpu()
        members, groups = codes_MG.shape
        shape = (members, groups, int(codes_MG.max()), int(dims_MG.max()))
        self.register_buffer("codebook_MGKZ", torch.zeros(shape))
        self.register_buffer("size_MGK", torch.ones(shape[:3]))
        self.register_buffer("sum_MGKZ", torch.zeros(shape))
        self.register_buffer("unused_MGK", torch.arange(shape[2]) >= codes_MG.cpu()[..., None], persistent=False)

    def forward(self, latent_MGBZ: Tensor) -> Quantized:
        """Replace every latent by its nearest code."""
        tokens_MGB = self.nearest(latent_MGBZ.detach())
        codes_MGBZ = self.lookup(tokens_MGB)
        straight_MGBZ = latent_MGBZ + (codes_MGBZ - latent_MGBZ).detach()
        return Quantized(latent_MGBZ, codes_MGBZ, straight_MGBZ, tokens_MGB)

    def nearest(self, latent_MGBZ: Tensor) -> Tensor:
        """Return the token of the nearest code in squared distance, `[M, G, B]`."""
        # |z|^2 is the same for every code and is left out.
        half_norms_MGK = self.codebook_MGKZ.square().sum(dim=-1) / 2
        bias_MGK = half_norms_MGK.masked_fill(self.unused_MGK, torch.inf)
        products_MGBK = latent_MGBZ @ self.codebook_MGKZ.mT
        return (bias_MGK[:, :, None] - products_MGBK).argmin(dim=-1)

    def lookup(self, tokens_MGB: Tensor) -> Tensor:
        """Return the codes `[M, G, B, Z]` of tokens."""
        return self.codebook_MGKZ.flatten(0, 2)[self._flat(tokens_MGB)]

    def _flat(self, tokens_MGB: Tensor) -> Tensor:
        members, groups, codes, _ = self.codebook_MGKZ.shape
        offset_MG = torch.arange(members * groups, device=tokens_MGB.device).view(members, groups) * codes
        return tokens_MGB + offset_MG[:, :, None]

    @torch.no_grad()
    def update(self, quantized: Quantized, alive_M: Tensor, expire: bool) -> None:
        """Move the codebooks towards the latents they were chosen for; members that are not `alive_M` keep theirs.

        With `expire`, codes whose share of the rows is below `expiry_share` / K are placed on rows of this batch,
        with an average weight and `sum = row * size`, so that the next update leaves them where they were put.
        """
        size_MGK, sum_MGKZ = self._batch_statistics(quantized)
        decay = self.config.ema_decay
        size_MGK = self.size_MGK * decay + size_MGK * (1 - decay)
        sum_MGKZ = self.sum_MGKZ * decay + sum_MGKZ * (1 - decay)
        if expire:
            size_MGK, sum_MGKZ = self._revive(size_MGK, sum_MGKZ, quantized.latent_MGBZ)
        alive_MGK = (alive_M[:, None, None] & ~self.unused_MGK).expand_as(size_MGK)
        self.size_MGK.copy_(torch.where(alive_MGK, size_MGK, self.size_MGK))
        self.sum_MGKZ.copy_(torch.where(alive_MGK[..., None], sum_MGKZ, self.sum_MGKZ))
        # Without expiry an unused code's size decays towards zero: it then stays where it is.
        held_MGK = ~alive_MGK | (self.size_MGK < 1e-6)
        moved_MGKZ = self.sum_MGKZ / self.size_MGK.clamp(min=1e-6)[..., None]
        self.codebook_MGKZ.copy_(torch.where(held_MGK[..., None], self.codebook_MGKZ, moved_MGKZ))

    def _batch_statistics(self, quantized: Quantized) -> tuple[Tensor, Tensor]:
        flat = self._flat(quantized.tokens_MGB).flatten()
        latent = quantized.latent_MGBZ.detach().flatten(0, 2)
        size = torch.zeros_like(self.size_MGK).flatten().index_add_(0, flat, torch.ones_like(latent[:, 0]))
        total = torch.zeros_like(self.sum_MGKZ).flatten(0, 2).index_add_(0, flat, latent)
        return size.view_as(self.size_MGK), total.view_as(self.sum_MGKZ)

    def _revive(self, size_MGK: Tensor, sum_MGKZ: Tensor, latent_MGBZ: Tensor) -> tuple[Tensor, Tensor]:
        codes_MG = (~self.unused_MGK).sum(dim=-1)
        mean_MG = size_MGK.masked_fill(self.unused_MGK, 0).sum(dim=-1) / codes_MG
        dead_MGK = size_MGK < self.config.expiry_share * mean_MG[..., None]
        # Batches are drawn from the member's own random stream: their first rows are a fair sample.
        rows = torch.arange(size_MGK.shape[-1], device=size_MGK.device) % latent_MGBZ.shape[2]
        rows_MGKZ = latent_MGBZ.detach()[:, :, rows]
        size_MGK = torch.where(dead_MGK, mean_MG[..., None], size_MGK)
        return size_MGK, torch.where(dead_MGK[..., None], rows_MGKZ * mean_MG[..., None, None], sum_MGKZ)

    @torch.no_grad()
    def start_from_data(self, member: int, latent_GNZ: Tensor, generator: Generator, batch_size: int) -> None:
        """Place a member's codes by k-means on latents; sizes start at the cluster sizes, scaled to one batch."""
        for group, latent_NZ in enumerate(latent_GNZ):
            codes = int(self.codes_MG[member, group])
            centres_KZ, counts_K = kmeans(latent_NZ, codes, self.config.kmeans_iterations, generator)
            size_K = counts_K.to(latent_NZ.dtype).clamp(min=1) * (batch_size / len(latent_NZ))
            self.codebook_MGKZ[member, group, :codes] = centres_KZ
            self.size_MGK[member, group, :codes] = size_K
            self.sum_MGKZ[member, group, :codes] = centres_KZ * size_K[:, None]

    @torch.no_grad()
    def start_from_noise(self, member: int, generator: Generator) -> None:
        """Place a member's codes uniformly in +-1/K, as the reference implementation of VQ-VAE does."""
        for group, (codes, dims) in enumerate(
            zip(self.codes_MG[member].tolist(), self.dims_MG[member].tolist(), strict=True)
        ):
            noise_KZ = (torch.rand(codes, dims, generator=generator) * 2 - 1) / codes
            self.codebook_MGKZ[member, group, :codes, :dims] = noise_KZ.to(self.codebook_MGKZ)
            self.sum_MGKZ[member, group, :codes, :dims] = noise_KZ.to(self.codebook_MGKZ)
