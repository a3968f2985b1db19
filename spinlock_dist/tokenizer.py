"""A trained tokenizer: raw features to tokens and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.config import TrialConfig
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
from spinlock_dist.features.pipeline import FeaturePipeline
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, Reconstruction, stack_tokens
from spinlock_dist.split import split_rows
from spinlock_dist.training.evaluation import CHUNK, EvaluationData, chunks, evaluate, passes


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """One trained configuration with everything needed to use it: nothing else has to be at hand.

    `model` has one member. Tokens are `[N, C, L]`: for every row, category and level the index of a code; they are
    `[N, C, L, S]` where some level has several codebooks.
    """

    config: TrialConfig
    model: HierarchicalVQVAE
    pipeline: FeaturePipeline
    categories: tuple[Category, ...]
    characteristics: tuple[Characteristics, ...]
    fingerprint: str

    @property
    def plan(self) -> CapacityPlan:
        """Sizes of every quantizer."""
        return self.model.plans[0]

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of one row's tokens: `(C, L)`, or `(C, L, S)` where some level has several codebooks."""
        codes = self.plan.codes
        return codes.shape if codes.shape[2] > 1 else codes.shape[:2]

    @cached_property
    def identity(self) -> str:
        """What tells it from any other, in 64 hexadecimal digits: the SHA-256 of all that its tokens depend on.

        Tokens of one identity can be decoded by it alone. It stays the same when a checkpoint is copied or loaded.
        """
        names = [list(self.pipeline.feature_names), [[each.name, list(each.columns)] for each in self.categories]]
        found = hashlib.sha256(json.dumps([*names, self.plan.codes.tolist()]).encode())
        arrays = {f"pipeline/{name}": array for name, array in self.pipeline.to_state()[0].items()}
        arrays |= {f"model/{name}": tensor.cpu().numpy() for name, tensor in self.model.state_dict().items()}
        for name, array in sorted(arrays.items()):
            found.update(f"{name} {array.dtype.str} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def encode(self, table: FeatureTable) -> np.ndarray:
        """The tokens `[N, C, L]` or `[N, C, L, S]` int64 of raw features; see `token_shape`.

        Raises `DataError` unless the columns are the same.
        """
        grouped_NGF = self._group(self.pipeline.transform(table))
        parts = chunks(self.model, grouped_NGF, np.arange(len(grouped_NGF)))
        tokens_NGLS = np.concatenate([stack_tokens(self.model.layout, self.model.tokens(x_MBGF)) for x_MBGF in parts])
        return tokens_NGLS.reshape(len(tokens_NGLS), *self.token_shape)

    @torch.no_grad()
    def reconstruct(self, values_ND: np.ndarray) -> Iterator[list[Reconstruction]]:
        """Pass normalized features through the model, in chunks."""
        yield from passes(self.model, self._group(values_ND), np.arange(len(values_ND)))

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The features `[N, D]` float64 that tokens stand for, in raw units of the cleaned columns.

        Raises `DataError` for tokens of another shape or beyond a codebook.
        """
        tokens = np.asarray(tokens)
        if tokens.shape[1:] != self.token_shape:
            wanted = ", ".join(map(str, self.token_shape))
            raise DataError(f"tokens must be [N, {wanted}], are {list(tokens.shape)}")
        tokens = tokens.reshape(-1, *self.plan.codes.shape)
        if ((tokens < 0) | (tokens >= self.plan.codes)).any():
            raise DataError("a token lies beyond its codebook; were these made by another tokenizer?")
        outputs = [self._decode(torch.from_numpy(tokens[i : i + CHUNK])) for i in range(0, len(tokens), CHUNK)]
        normalized = np.concatenate(outputs) if outputs else np.empty((0, len(self.pipeline.feature_names)), np.float32)
        return self.pipeline.invert(normalized)

    def evaluate(self, table: FeatureTable, split: str) -> Metrics:
        """The metrics on a split of the table it was trained on. Only finals and export may look at `test`."""
        return self.evaluate_values(self.pipeline.transform(table), split)

    def evaluate_values(self, values_ND: np.ndarray, split: str) -> Metrics:
        """The metrics on a split of all rows of the training table, given normalized."""
        data = EvaluationData(
            values_ND=values_ND,
            grouped_NGF=self._group(values_ND),
            split=split_rows(len(values_ND), self.config.prepare.split),
            categories=self.categories,
            characteristics=self.characteristics,
            pipeline=self.pipeline,
        )
        return evaluate(self.model, data, split)[0]

    def _group(self, values_ND: np.ndarray) -> Tensor:
        return self.model.layout.pack(torch.from_numpy(values_ND).to(self.model.layout.mask))

    @torch.no_grad()
    def _decode(self, tokens_BGLS: Tensor) -> np.ndarray:
        tokens_MGBLS = tokens_BGLS.to(self.model.layout.mask.device).long().transpose(0, 1)[None]
        return self.model.layout.unpack(self.model.decode(tokens_MGBLS)[0]).cpu().numpy()
