"""Vector quantizer with exponential-moving-average codebooks."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.kmeans import assign, kmeans
from spinlock_dist.model.quantizers.base import Quantized, Quantizer


class EMAQuantizer(Quantizer):
    """Codebooks moved by the average of the latents they were chosen for (van den Oord et al. 2017, appendix A.1).

    Where a level needs more codes than one codebook can learn, further codebooks quantize what the ones before them
    left, and their codes add up (residual quantization, Juang & Gray 1982). A further codebook of one code is none:
    its code stays zero.
    """

    codebook_MGSKZ: Tensor
    size_MGSK: Tensor
    sum_MGSKZ: Tensor
    unused_MGSK: Tensor

    def __init__(self, dims_MG: Tensor, codes_MGS: Tensor, config: QuantizerConfig):
        super().__init__(dims_MG, codes_MGS, config)
        shape = (*codes_MGS.shape, int(codes_MGS.max()), int(dims_MG.max()))
        further_S = torch.arange(shape[2]) > 0
        self.learned_MGS = self.codes_MGS.masked_fill((self.codes_MGS == 1) & further_S, 0)
        self.register_buffer("codebook_MGSKZ", torch.zeros(shape))
        self.register_buffer("size_MGSK", torch.ones(shape[:4]))
        self.register_buffer("sum_MGSKZ", torch.zeros(shape))
        self.register_buffer("unused_MGSK", torch.arange(shape[3]) >= self.learned_MGS[..., None], persistent=False)

    def forward(self, latent_MGBZ: Tensor) -> Quantized:
        """Replace every latent by its nearest code, and what that leaves by the nearest of the next codebook."""
        left_MGBZ = latent_MGBZ.detach()
        inputs, tokens = [], []
        for book in range(self.codebook_MGSKZ.shape[2]):
            nearest_MGB = self._nearest(left_MGBZ, book)
            inputs.append(left_MGBZ)
            tokens.append(nearest_MGB)
            left_MGBZ = left_MGBZ - self._rows(self.codebook_MGSKZ[:, :, book], nearest_MGB)
        tokens_MGBS = torch.stack(tokens, dim=-1)
        codes_MGBZ = self.lookup(tokens_MGBS)
        straight_MGBZ = latent_MGBZ + (codes_MGBZ - latent_MGBZ).detach()
        return Quantized(latent_MGBZ, codes_MGBZ, straight_MGBZ, tokens_MGBS, torch.stack(inputs, dim=2))

    def _nearest(self, left_MGBZ: Tensor, book: int) -> Tensor:
        """Return the token of the nearest code of one codebook in squared distance, `[M, G, B]`."""
        codebook_MGKZ = self.codebook_MGSKZ[:, :, book]
        # |z|^2 is the same for every code and is left out.
        bias_MGK = (codebook_MGKZ.square().sum(dim=-1) / 2).masked_fill(self.unused_MGSK[:, :, book], torch.inf)
        bias, left, codebook = bias_MGK.flatten(0, 1), left_MGBZ.flatten(0, 1), codebook_MGKZ.flatten(0, 1)
        nearest = torch.baddbmm(bias[:, None], left, codebook.mT, alpha=-1).argmin(dim=-1)
        return nearest.unflatten(0, left_MGBZ.shape[:2])

    def lookup(self, tokens_MGBS: Tensor) -> Tensor:
        """Return the codes `[M, G, B, Z]` of tokens, summed over codebooks."""
        books = [
            self._rows(self.codebook_MGSKZ[:, :, book], tokens_MGB)
            for book, tokens_MGB in enumerate(tokens_MGBS.unbind(dim=-1))
        ]
        return books[0] if len(books) == 1 else torch.stack(books).sum(dim=0)

    @staticmethod
    def _rows(codebook_MGKZ: Tensor, tokens_MGB: Tensor) -> Tensor:
        members, groups, codes, _ = codebook_MGKZ.shape
        offset_MG = torch.arange(members * groups, device=tokens_MGB.device).view(members, groups) * codes
        return codebook_MGKZ.flatten(0, 2)[tokens_MGB + offset_MG[:, :, None]]

    @torch.no_grad()
    def update(self, quantized: Quantized, alive_M: Tensor, expire: bool) -> None:
        """Move the codebooks towards what they were chosen for; members that are not `alive_M` keep theirs.

        With `expire`, codes whose share of the rows is below `expiry_share` / K are placed on rows of this batch,
        with an average weight and `sum = row * size`, so that the next update leaves them where they were put.
        """
        size_MGSK, sum_MGSKZ = self._batch_statistics(quantized)
        decay = self.config.ema_decay
        size_MGSK = self.size_MGSK * decay + size_MGSK * (1 - decay)
        sum_MGSKZ = self.sum_MGSKZ * decay + sum_MGSKZ * (1 - decay)
        if expire:
            size_MGSK, sum_MGSKZ = self._revive(size_MGSK, sum_MGSKZ, quantized.inputs_MGSBZ)
        alive_MGSK = (alive_M[:, None, None, None] & ~self.unused_MGSK).expand_as(size_MGSK)
        self.size_MGSK.copy_(torch.where(alive_MGSK, size_MGSK, self.size_MGSK))
        self.sum_MGSKZ.copy_(torch.where(alive_MGSK[..., None], sum_MGSKZ, self.sum_MGSKZ))
        # Without expiry an unused code's size decays towards zero: it then stays where it is.
        held_MGSK = ~alive_MGSK | (self.size_MGSK < 1e-6)
        moved_MGSKZ = self.sum_MGSKZ / self.size_MGSK.clamp(min=1e-6)[..., None]
        self.codebook_MGSKZ.copy_(torch.where(held_MGSK[..., None], self.codebook_MGSKZ, moved_MGSKZ))

    def _batch_statistics(self, quantized: Quantized) -> tuple[Tensor, Tensor]:
        tokens_MGSB = quantized.tokens_MGBS.movedim(-1, 2)
        books = tokens_MGSB.shape[:3]
        offset_MGS = torch.arange(books.numel(), device=tokens_MGSB.device).view(books) * self.size_MGSK.shape[-1]
        flat = (tokens_MGSB + offset_MGS[..., None]).flatten()
        inputs = quantized.inputs_MGSBZ.flatten(0, 3)
        size = torch.zeros_like(self.size_MGSK).flatten().index_add_(0, flat, torch.ones_like(inputs[:, 0]))
        total = torch.zeros_like(self.sum_MGSKZ).flatten(0, 3).index_add_(0, flat, inputs)
        return size.view_as(self.size_MGSK), total.view_as(self.sum_MGSKZ)

    def _revive(self, size_MGSK: Tensor, sum_MGSKZ: Tensor, inputs_MGSBZ: Tensor) -> tuple[Tensor, Tensor]:
        codes_MGS = (~self.unused_MGSK).sum(dim=-1).clamp(min=1)
        mean_MGS = size_MGSK.masked_fill(self.unused_MGSK, 0).sum(dim=-1) / codes_MGS
        dead_MGSK = size_MGSK < self.config.expiry_share * mean_MGS[..., None]
        # Batches are drawn from the member's own random stream: their first rows are a fair sample.
        rows = torch.arange(size_MGSK.shape[-1], device=size_MGSK.device) % inputs_MGSBZ.shape[3]
        rows_MGSKZ = inputs_MGSBZ[:, :, :, rows]
        size_MGSK = torch.where(dead_MGSK, mean_MGS[..., None], size_MGSK)
        return size_MGSK, torch.where(dead_MGSK[..., None], rows_MGSKZ * mean_MGS[..., None, None], sum_MGSKZ)

    @torch.no_grad()
    def start_from_data(self, member: int, latent_GNZ: Tensor, generator: Generator, batch_size: int) -> Tensor:
        """Place a member's codes by k-means on latents; sizes start at the cluster sizes, scaled to one batch.

        Returns the latents quantized, `[G, N, Z]`.
        """
        quantized = []
        for group, latent_NZ in enumerate(latent_GNZ):
            left_NZ = latent_NZ
            for book, codes in enumerate(self.learned_MGS[member, group].tolist()):
                if codes == 0:
                    break
                centres_KZ, counts_K = kmeans(left_NZ, codes, self.config.kmeans_iterations, generator)
                size_K = counts_K.to(latent_NZ.dtype).clamp(min=1) * (batch_size / len(latent_NZ))
                self.codebook_MGSKZ[member, group, book, :codes] = centres_KZ
                self.size_MGSK[member, group, book, :codes] = size_K
                self.sum_MGSKZ[member, group, book, :codes] = centres_KZ * size_K[:, None]
                left_NZ = left_NZ - centres_KZ[assign(left_NZ, centres_KZ)[0]]
            quantized.append(latent_NZ - left_NZ)
        return torch.stack(quantized)

    @torch.no_grad()
    def start_from_noise(self, member: int, generator: Generator) -> None:
        """Place a member's codes uniformly in +-1/K, as the reference implementation of VQ-VAE does."""
        for group, dims in enumerate(self.dims_MG[member].tolist()):
            for book, codes in enumerate(self.learned_MGS[member, group].tolist()):
                noise_KZ = (torch.rand(codes, dims, generator=generator) * 2 - 1) / max(1, codes)
                self.codebook_MGSKZ[member, group, book, :codes, :dims] = noise_KZ.to(self.codebook_MGSKZ)
                self.sum_MGSKZ[member, group, book, :codes, :dims] = noise_KZ.to(self.codebook_MGSKZ)
