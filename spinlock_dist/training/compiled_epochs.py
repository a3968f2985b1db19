"""The bridge from the batched model to the compiled training of one category: `CompiledEpochs`.

Weights and both moments of Adam lie in the optimizer's flat buffers, codebooks in the quantizers' tensors. The compiled
functions read them there at the start of an epoch and write them back at its end: between epochs the batched model is
the only place that holds them, for evaluation, snapshots and members that leave, as if torch had trained it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from spinlock_dist.config import TrialConfig
from spinlock_dist.device import on_threads
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, Tokens
from spinlock_dist.model.level import GroupMLP
from spinlock_dist.model.quantizers.ema import EMAQuantizer
from spinlock_dist.training.losses import Scale
from spinlock_dist.training.optimizer import MemberAdam


class CompiledEpochs:
    """Trains the members of a batched model epoch by epoch, each category of each by itself, on all threads there are.

    `model` has one decoder per category and vector quantizers; `optimizer` holds its weights.
    """

    terms = ("reconstruction", "commitment", "informativeness")

    def __init__(
        self,
        model: HierarchicalVQVAE,
        optimizer: MemberAdam,
        train_NGF: Tensor,
        scale: Scale,
        configs: Sequence[TrialConfig],
    ):
        self.model, self.optimizer, self.configs = model, optimizer, list(configs)
        self.batch = min(configs[0].training.batch_size, len(train_NGF))
        sizes = list(enumerate(model.layout.sizes))
        self.data = [np.ascontiguousarray(train_NGF[:, group, :size].numpy().T) for group, size in sizes]
        self.used = [
            np.ascontiguousarray(scale.used_GF[bucket][row, :size].numpy())
            for (bucket, row), (_, size) in zip(model.layout.places, sizes, strict=True)
        ]
        self.scales_GT = self._scales(scale).astype(np.float32)
        largest_first = sorted(range(len(sizes)), key=lambda group: -model.layout.sizes[group])
        self.places = [(member, group) for group in largest_first for member in range(model.members)]
        self.shapes = {place: self._shape(*place) for place in self.places}
        self.numbers = torch.arange(optimizer.weights.numel())
        self.cells = {place: self._cells(*place) for place in self.places}
        self.books = {place: self._codebooks(place) for place in self.places}

    def epoch(
        self, orders_MN: np.ndarray, rates_MS: np.ndarray, tokens: Tokens | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pass once over the training rows, in the order and with the rates of each member; with the `tokens` of all
        rows only decoders learn.

        Returns the mean of every term over the batches `[M, T]`, and which of the terms, or behind them the gradient,
        were not finite where a member first failed; it goes no further in that category.
        """
        shape = (self.model.members, len(self.data), len(self.terms))
        sums_MGT, taken_MG = np.zeros(shape), np.zeros(shape[:2], np.int64)

        def train(place: tuple[int, int]) -> None:
            rates_S = np.ascontiguousarray(rates_MS[place[0]])
            given_NLS = self._tokens(place, tokens)
            taken_MG[place] = self._train(place, (orders_MN[place[0]], given_NLS), rates_S, sums_MGT[place])

        on_threads(train, self.places)
        self.optimizer.steps += rates_MS.shape[1]
        first_M1 = taken_MG.min(axis=1, keepdims=True)
        stopped_MG = (taken_MG == first_M1) & (first_M1 < rates_MS.shape[1])
        broken_MGT = ~np.isfinite(sums_MGT)
        broken_MGT = np.concatenate([broken_MGT, ~broken_MGT.any(axis=2, keepdims=True)], axis=2)
        failed_MT = (stopped_MG[..., None] & broken_MGT).any(axis=1)
        return sums_MGT.sum(axis=1) / max(rates_MS.shape[1], 1), failed_MT

    def _tokens(self, place: tuple[int, int], tokens: Tokens | None) -> np.ndarray:
        """Those of a category's codebooks `[N, L, S]`, of no rows without `tokens`."""
        levels, books = self.shapes[place].codes_LS.shape
        if tokens is None:
            return np.zeros((0, levels, books), np.int64)
        bucket, row = self.model.layout.places[place[1]]
        of_levels = [tokens_MGNS[place[0], row, :, :books] for tokens_MGNS in tokens[bucket]]
        padded = [pad(tokens_NS, (0, books - tokens_NS.shape[1])) for tokens_NS in of_levels]
        return torch.stack(padded, dim=1).numpy()

    def _train(
        self, place: tuple[int, int], rows: tuple[np.ndarray, np.ndarray], rates_S: np.ndarray, sums_T: np.ndarray
    ) -> int:
        from spinlock_dist.compiled import training as kernel

        member, group = place
        loss, quantizer = self.configs[member].loss, self.configs[member].quantizer
        recipe = kernel.Recipe(
            batch=self.batch,
            steps=self.optimizer.steps,
            rates_S=rates_S,
            scales_T=self.scales_GT[group],
            weights_T=np.array([1, loss.commitment, loss.informativeness], np.float32),
            used_F=self.used[group],
            decay=quantizer.ema_decay,
            expiry_share=quantizer.expiry_share,
            expiry_every=quantizer.expiry_every,
        )
        shape, adam = self.shapes[place], self.optimizer
        books, copies = self.books[place]
        for here, there in copies:
            here[...] = there
        weights = kernel.Weights(adam.weights.numpy(), adam.first.numpy(), adam.second.numpy(), self.cells[place])
        category = kernel.Category(shape, books, recipe, self.data[group])
        taken = kernel.train_epoch(category, weights, *rows, sums_T)
        for here, there in copies:
            there[...] = here
        return int(taken)

    def _codebooks(self, place: tuple[int, int]) -> tuple[Any, list[tuple[np.ndarray, np.ndarray]]]:
        """Codebooks as the kernel has them, and pairs of views, there and in the model, of what they have in common."""
        from spinlock_dist.compiled.training import Codebooks

        shape, pairs = self.shapes[place], []
        sizes, most = (*shape.codes_LS.shape, int(shape.codes_LS.max())), int(shape.dims_L.max())
        books = Codebooks(*(np.zeros(each, np.float32) for each in ((*sizes, most), sizes, (*sizes, most))))
        for level, dims in enumerate(shape.dims_L):
            quantizer, cells = self._quantizer(place, level)
            theirs = (quantizer.codebook_MGSKZ, quantizer.size_MGSK, quantizer.sum_MGSKZ)
            for book, codes in enumerate(shape.codes_LS[level]):
                for here, there in zip(books, theirs, strict=True):
                    used = (slice(0, codes), slice(0, dims))[: here.ndim - 2]
                    if codes:
                        pairs.append((here[level, book][used], there.numpy()[cells][book][used]))
        return books, pairs

    def _quantizer(self, place: tuple[int, int], level: int) -> tuple[EMAQuantizer, tuple[int, int]]:
        module, row = self.model.level_of(place[1], level)
        return cast(EMAQuantizer, module.quantizer), (place[0], row)

    def _scales(self, scale: Scale) -> np.ndarray:
        """What sums of squares over a batch are multiplied by to be terms of the loss, `[G, T]`; see `losses`."""
        groups, levels = len(self.data), self.model.dims_MGL.shape[2]
        by_bucket = [group for bucket in self.model.layout.buckets for group in bucket.groups]
        inverse_G = np.empty(groups)
        inverse_G[by_bucket] = scale.inverse_G.numpy()
        share_G = inverse_G / groups
        if self.configs[0].loss.reconstruction_balance == "features":
            share_G = (inverse_G > 0) / float(scale.total_G.sum())
        return np.stack([share_G, share_G / levels, inverse_G / (groups * max(levels - 1, 1))], axis=1) / self.batch

    def _shape(self, member: int, group: int) -> Any:
        from spinlock_dist.compiled.layers import mlp_size
        from spinlock_dist.compiled.training import Shape

        config, features = self.model.config, self.model.layout.sizes[group]
        dims_L = self.model.dims_MGL[member, group].numpy().astype(np.int64)
        latents_L = np.cumsum(dims_L) - dims_L
        residual, hidden = config.levels == "residual", config.hidden
        sizes = []
        for dims, coarser in zip(dims_L.tolist(), latents_L.tolist(), strict=True):
            sizes.append(mlp_size(features, coarser if residual else 0, hidden, dims))
            sizes.append(mlp_size(dims, coarser, hidden, features))
        begins = np.cumsum([0, *sizes[:-1]])
        learned = []
        for level in range(len(dims_L)):
            quantizer, cells = self._quantizer((member, group), level)
            learned.append(quantizer.learned(*cells))
        most = max(map(len, learned))
        codes_LS = np.array([[*codes, *[0] * (most - len(codes))] for codes in learned], np.int64)
        return Shape(features, hidden, residual, dims_L, codes_LS, latents_L, begins[0::2].copy(), begins[1::2].copy())

    def _cells(self, member: int, group: int) -> np.ndarray:
        """Where the weights of a category lie in the optimizer's flat buffers, in the order of the kernel."""
        features, dims = self.model.layout.sizes[group], self.model.dims_MGL[member, group].tolist()
        found: list[np.ndarray] = []
        for index, own in enumerate(dims):
            level, row = self.model.level_of(group, index)
            coarser = dims[:index]
            inputs = [features, *(coarser if level.encoder_context else [])]
            found += self._mlp_cells(level.encoder, (member, row), inputs, own)
            found += self._mlp_cells(level.decoder, (member, row), [own, *coarser], features)
        return np.concatenate(found)

    def _mlp_cells(self, mlp: GroupMLP, place: tuple[int, int], inputs: list[int], outputs: int) -> list[np.ndarray]:
        def of(parameter: Tensor, *used: slice) -> np.ndarray:
            first = (parameter.data_ptr() - self.optimizer.weights.data_ptr()) // parameter.element_size()
            places = self.numbers.as_strided(parameter.shape, parameter.stride(), first)
            return cast(np.ndarray, places.numpy()[place][used].ravel())

        out = slice(0, outputs)
        return [
            of(mlp.linear_MGIO, slice(0, inputs[0]), out),
            of(mlp.bias_MGO, out),
            *(of(weights, slice(0, size)) for weights, size in zip(mlp.hidden_MGIH, inputs, strict=True)),
            of(mlp.hidden_bias_MGH),
            of(mlp.out_MGHO, slice(None), out),
        ]
