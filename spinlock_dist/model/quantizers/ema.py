"""Vector quantizer with exponential-moving-average codebooks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding, pad

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.device import on_threads
from spinlock_dist.model.kmeans import batched_kmeans, compiled_kmeans, nearest_code
from spinlock_dist.model.quantizers.base import Choice, Quantized, Quantizer, straight_through


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
    never_MGSK: Tensor
    first_MGS1: Tensor
    one: Tensor

    def __init__(self, dims_MG: Tensor, codes_MGS: Tensor, config: QuantizerConfig):
        super().__init__(dims_MG, codes_MGS, config)
        self._codes_by_group = self.codes_MGS.tolist()
        self.books = max(1, int((self.codes_MGS > 1).any(dim=1).any(dim=0).sum()))
        shape = (*codes_MGS.shape[:2], self.books, int(codes_MGS.max()), int(dims_MG.max()))
        further_S = torch.arange(self.books) > 0
        learned_MGS = self.codes_MGS[..., : self.books]
        learned_MGS = learned_MGS.masked_fill((learned_MGS == 1) & further_S, 0)
        self.register_buffer("codebook_MGSKZ", torch.zeros(shape))
        self.register_buffer("size_MGSK", torch.ones(shape[:4]))
        self.register_buffer("sum_MGSKZ", torch.zeros(shape))
        self.register_buffer("unused_MGSK", torch.arange(shape[3]) >= learned_MGS[..., None], persistent=False)
        never_MGSK = torch.zeros(shape[:4]).masked_fill(self.unused_MGSK, -torch.inf)
        first_MGS1 = torch.arange(0, never_MGSK.numel(), shape[3]).view(*shape[:3], 1)
        self.register_buffer("never_MGSK", never_MGSK, persistent=False)
        self.register_buffer("first_MGS1", first_MGS1, persistent=False)
        self.register_buffer("one", torch.ones(1), persistent=False)

    def forward(self, latent_MGBZ: Tensor) -> Quantized:
        """Replace every latent by its nearest code, and what that leaves by the nearest of the next codebook."""
        residual_MGBZ, choices = latent_MGBZ.detach(), list[Choice]()
        tokens, codes = list[Tensor](), list[Tensor]()
        # Half of |z|^2 - |z - c|^2, largest where c is nearest: |z|^2 is the same for every code and is left out.
        bias_MGSK = torch.sub(self.never_MGSK, self.codebook_MGSKZ.square().sum(dim=-1), alpha=0.5)
        for book in range(self.books):
            if book:
                residual_MGBZ = residual_MGBZ - codes[-1]
            tokens.append(_nearest(bias_MGSK[:, :, book], self.codebook_MGSKZ[:, :, book], residual_MGBZ))
            choices.append(Choice(residual_MGBZ, self._places(tokens[-1], book)))
            codes.append(self._codes(choices[-1].place_MGB))
        codes_MGBZ = sum(codes[1:], codes[0])
        tokens_MGBS = torch.stack(tokens, dim=-1) if self.books > 1 else tokens[0][..., None]
        if self.codes_MGS.shape[-1] > self.books:
            tokens_MGBS = pad(tokens_MGBS, (0, self.codes_MGS.shape[-1] - self.books))
        return Quantized(latent_MGBZ, codes_MGBZ, straight_through(latent_MGBZ, codes_MGBZ), tokens_MGBS, choices)

    def lookup(self, tokens_MGBS: Tensor) -> Tensor:
        """The codes `[M, G, B, Z]` of tokens, summed over codebooks."""
        codes = [self._codes(self._places(tokens_MGBS[..., book], book)) for book in range(self.books)]
        return sum(codes[1:], codes[0])

    def _places(self, tokens_MGB: Tensor, book: int) -> Tensor:
        return tokens_MGB + self.first_MGS1[:, :, book]

    def _codes(self, places_MGB: Tensor) -> Tensor:
        return embedding(places_MGB, self.codebook_MGSKZ.flatten(0, 3))

    @torch.no_grad()
    def update(self, quantized: Quantized, alive_M: Tensor, expire: bool) -> None:
        """Move each code to the moving average of the latents it was chosen for; members not `alive_M` keep theirs.

        With `expire`, codes whose share of the rows is below `expiry_share` / K are placed on rows of this batch.
        """
        size_MGSK, sum_MGSKZ = self._batch_statistics(quantized)
        size_MGSK = torch.lerp(self.size_MGSK, size_MGSK, 1 - self.config.ema_decay)
        sum_MGSKZ = torch.lerp(self.sum_MGSKZ, sum_MGSKZ, 1 - self.config.ema_decay)
        if expire:
            size_MGSK, sum_MGSKZ = self._revive(size_MGSK, sum_MGSKZ, quantized.choices)
        held_MGSK = ~alive_M[:, None, None, None] | self.unused_MGSK
        torch.where(held_MGSK, self.size_MGSK, size_MGSK, out=self.size_MGSK)
        torch.where(held_MGSK[..., None], self.sum_MGSKZ, sum_MGSKZ, out=self.sum_MGSKZ)
        # Without expiry an unused code's size decays towards zero: it then stays where it is.
        held_MGSK = held_MGSK | (size_MGSK < 1e-6)
        moved_MGSKZ = sum_MGSKZ.div_(size_MGSK.clamp(min=1e-6)[..., None])
        torch.where(held_MGSK[..., None], self.codebook_MGSKZ, moved_MGSKZ, out=self.codebook_MGSKZ)

    def _batch_statistics(self, quantized: Quantized) -> tuple[Tensor, Tensor]:
        """How often each code was chosen, `[M, G, S, K]`, and the sum of what it was chosen for."""
        size, total = torch.zeros_like(self.size_MGSK), torch.zeros_like(self.sum_MGSKZ)
        flat_size, flat_total = size.flatten(), total.flatten(0, 3)
        for inputs_MGBZ, place_MGB in quantized.choices:
            place = place_MGB.flatten()
            flat_size.index_add_(0, place, self.one.expand(len(place)))
            flat_total.index_add_(0, place, inputs_MGBZ.flatten(0, 2))
        return size, total

    def _revive(self, size_MGSK: Tensor, sum_MGSKZ: Tensor, choices: list[Choice]) -> tuple[Tensor, Tensor]:
        """Place dead codes on rows of the batch, with the size of an average code.

        A code has no state of its own, it is sum / size: both must be set. `sum = row * size` puts it on the row, and
        there it stays until it is chosen, as the next update gives (d * row * size) / (d * size) = row for any decay d.
        With `sum = row` it would land on row / size, near the origin, where it may never be chosen at all.
        The average size gives it time: unused, it is dead again after log(expiry_share) / log(d) steps, 90 by default.
        Of a size near zero it would be dead at the next check, or move all the way to the first row it is chosen for.
        """
        codes_MGS = (~self.unused_MGSK).sum(dim=-1).clamp(min=1)
        mean_MGS = size_MGSK.masked_fill(self.unused_MGSK, 0).sum(dim=-1) / codes_MGS
        dead_MGSK = size_MGSK < self.config.expiry_share * mean_MGS[..., None]
        # A batch is in random order, of the member's own stream: its first rows are a fair sample, without a draw here.
        rows = torch.arange(size_MGSK.shape[-1], device=size_MGSK.device) % choices[0].inputs_MGBZ.shape[2]
        rows_MGSKZ = torch.stack([inputs_MGBZ[:, :, rows] for inputs_MGBZ, _ in choices], dim=2)
        size_MGSK = torch.where(dead_MGSK, mean_MGS[..., None], size_MGSK)
        return size_MGSK, torch.where(dead_MGSK[..., None], rows_MGSKZ * mean_MGS[..., None, None], sum_MGSKZ)

    def draws(self, member: int, group: int) -> int:
        """One for each code."""
        return sum(self.learned(member, group))

    @torch.no_grad()
    def start_from_data(
        self, latent_MGNZ: Tensor, draws_MG: Sequence[Sequence[np.ndarray]], batch_size: int, compiled: bool
    ) -> Tensor:
        """Place all codes by k-means on latents; sizes start at the cluster sizes, scaled to one batch.

        A size is the moving average of how many rows of a batch choose the code. For a code that n of N rows are
        nearest to it settles at n * B / N: started there, averages are stationary, and the first batches move a code as
        much as later ones do, by a share (1 - d) of the way. With sizes of 1 a code of 20 rows a batch would go half of
        the way to the mean of its first batch.
        """
        draws_MGSK = self._draws_by_book(draws_MG)
        residual_MGNZ, scale = latent_MGNZ, batch_size / latent_MGNZ.shape[2]
        for book in range(self.books):
            solve = self._compiled_kmeans if compiled else self._batched_kmeans
            centres_MGKZ, counts_MGK, nearest_MGN = solve(residual_MGNZ, draws_MGSK[:, :, book], book)
            used_MGK = ~self.unused_MGSK[:, :, book]
            size_MGK = torch.where(used_MGK, counts_MGK.clamp(min=1) * scale, 1.0)
            self.codebook_MGSKZ[:, :, book] = centres_MGKZ
            self.size_MGSK[:, :, book] = size_MGK
            self.sum_MGSKZ[:, :, book] = centres_MGKZ * size_MGK[..., None]
            residual_MGNZ = residual_MGNZ - self._codes(self._places(nearest_MGN, book))
        return latent_MGNZ - residual_MGNZ

    def _draws_by_book(self, draws_MG: Sequence[Sequence[np.ndarray]]) -> Tensor:
        found_MGSK = np.zeros(self.size_MGSK.shape)
        for member, draws_G in enumerate(draws_MG):
            for group, draws in enumerate(draws_G):
                ends = np.cumsum(self.learned(member, group))
                for book, part in enumerate(np.split(draws, ends[:-1])):
                    found_MGSK[member, group, book, : len(part)] = part
        return torch.from_numpy(found_MGSK)

    def _batched_kmeans(self, x_MGNZ: Tensor, draws_MGK: Tensor, book: int) -> tuple[Tensor, Tensor, Tensor]:
        """Centres `[M, G, K, Z]`, rows of each `[M, G, K]` and each row's nearest `[M, G, N]`."""
        draws_PK = draws_MGK.to(x_MGNZ.device, non_blocking=True).flatten(0, 1)
        used_PK = ~self.unused_MGSK[:, :, book].flatten(0, 1)
        found = batched_kmeans(x_MGNZ.flatten(0, 1), draws_PK, used_PK, self.config.kmeans_iterations)
        centres, counts, nearest = (each.unflatten(0, x_MGNZ.shape[:2]) for each in found)
        return centres, counts, nearest

    def _compiled_kmeans(self, x_MGNZ: Tensor, draws_MGK: Tensor, book: int) -> tuple[Tensor, Tensor, Tensor]:
        """The same, each member's group by itself, without its padding."""
        centres_MGKZ = torch.zeros_like(self.codebook_MGSKZ[:, :, book])
        nearest_MGN = torch.zeros(x_MGNZ.shape[:3], dtype=torch.long)

        def one(place: tuple[int, int]) -> None:
            learned, dims = self.learned(*place), int(self.dims_MG[place])
            if book < len(learned):
                x_NZ, draws_K = x_MGNZ[place][:, :dims], draws_MGK[place][: learned[book]]
                centres_KZ, nearest_MGN[place] = compiled_kmeans(x_NZ, draws_K, self.config.kmeans_iterations)
                centres_MGKZ[place][: learned[book], :dims] = centres_KZ

        members, groups = x_MGNZ.shape[:2]
        on_threads(one, [(member, group) for member in range(members) for group in range(groups)])
        counts_MGK = torch.zeros(centres_MGKZ.shape[:3])
        return centres_MGKZ, counts_MGK.scatter_add_(2, nearest_MGN, torch.ones(x_MGNZ.shape[:3])), nearest_MGN

    @torch.no_grad()
    def start_from_noise(self, member: int, group: int, generator: Generator) -> None:
        """Place a group's codes uniformly in +-1/K, as the reference implementation of VQ-VAE does."""
        dims = int(self.dims_MG[member, group])
        for book, codes in enumerate(self.learned(member, group)):
            noise_KZ = (torch.rand(codes, dims, generator=generator) * 2 - 1) / codes
            self._place(member, group, book, noise_KZ.to(self.codebook_MGSKZ), torch.ones(codes))

    def learned(self, member: int, group: int) -> list[int]:
        """The sizes of a group's codebooks; a further one of one code is none."""
        first, *further = self._codes_by_group[member][group]
        return [first, *takewhile(lambda codes: codes > 1, further)]

    def _place(self, member: int, group: int, book: int, codes_KZ: Tensor, size_K: Tensor) -> None:
        codes, dims = codes_KZ.shape
        self.codebook_MGSKZ[member, group, book, :codes, :dims] = codes_KZ
        self.size_MGSK[member, group, book, :codes] = size_K
        self.sum_MGSKZ[member, group, book, :codes, :dims] = codes_KZ * size_K[:, None].to(codes_KZ)


def _nearest(bias_MGK: Tensor, codes_MGKZ: Tensor, latent_MGBZ: Tensor) -> Tensor:
    """For every latent the code with the largest product plus bias, `[M, G, B]`."""
    found = nearest_code(bias_MGK.flatten(0, 1), codes_MGKZ.flatten(0, 1), latent_MGBZ.flatten(0, 1))
    return found.view(latent_MGBZ.shape[:3])
