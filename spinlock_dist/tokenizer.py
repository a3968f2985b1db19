"""A trained tokenizer: raw features to tokens and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.sizing import CapacityPlan
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DataError
from spinlock_dist.features.pipeline import FeaturePipeline
from spinlock_dist.features.table import FeatureTable
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.prepare import split_rows
from spinlock_dist.training.evaluation import CHUNK, EvaluationData, evaluate


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """One trained configuration with everything needed to use it: nothing else has to be at hand.

    `model` has one member. Tokens are `[N, C, L]`: for every row, category and level the index of a code.
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

    def encode(self, table: FeatureTable) -> np.ndarray:
        """Return the tokens `[N, C, L]` int64 of raw features. Raises `DataError` unless the columns are the same."""
        grouped_NGF = self._group(self.pipeline.transform(table))
        chunks = [self._tokens(rows_BGF) for rows_BGF in grouped_NGF.split(CHUNK)]
        return np.concatenate(chunks)

    def decode(self, tokens_NCL: np.ndarray) -> np.ndarray:
        """Return the features `[N, D]` float64 that tokens stand for, in raw units of the cleaned columns.

        Raises `DataError` for tokens of another shape or beyond a codebook.
        """
        tokens = np.asarray(tokens_NCL)
        codes = self.plan.codes
        if tokens.ndim != 3 or tokens.shape[1:] != codes.shape:
            raise DataError(f"tokens must be [N, {codes.shape[0]}, {codes.shape[1]}], are {list(tokens.shape)}")
        if tokens.size and ((tokens < 0) | (tokens >= codes)).any():
            raise DataError("a token lies beyond its codebook; were these made by another tokenizer?")
        outputs = [self._decode(torch.from_numpy(tokens[i : i + CHUNK])) for i in range(0, len(tokens), CHUNK)]
        normalized = np.concatenate(outputs) if outputs else np.empty((0, len(self.pipeline.feature_names)), np.float32)
        return self.pipeline.invert(normalized)

    def evaluate(self, table: FeatureTable, split: str) -> Metrics:
        """Return the metrics on a split of the table it was trained on. Only finals and export may look at `test`."""
        return self.evaluate_values(self.pipeline.transform(table), split)

    def evaluate_values(self, values_ND: np.ndarray, split: str) -> Metrics:
        """Return the metrics on a split of all rows of the training table, given normalized."""
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
    def _tokens(self, rows_BGF: Tensor) -> np.ndarray:
        levels = self.model(rows_BGF[None]).levels
        return torch.stack([level.tokens_MGB[0].T for level in levels], dim=-1).cpu().numpy()

    @torch.no_grad()
    def _decode(self, tokens_BGL: Tensor) -> np.ndarray:
        tokens_MGBL = tokens_BGL.to(self.model.layout.mask.device).long().transpose(0, 1)[None]
        output_MGBF = self.model.decode(tokens_MGBL)
        return self.model.layout.unpack(output_MGBF[0].transpose(0, 1)).cpu().numpy()
