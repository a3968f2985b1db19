"""A codec with the face of a trained tokenizer: raw features to tokens and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinlock_dist.baselines.codec import Codec
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.features.pipeline import FeaturePipeline


@dataclass(frozen=True, kw_only=True)
class CodecTokenizer:
    """A fitted codec with everything needed to use it; `checkpoint.save_codec` keeps it.

    `pipeline` and `fingerprint` are those of the prepared data that `codec` was fitted to.
    """

    codec: Codec
    pipeline: FeaturePipeline
    fingerprint: str

    def encode(self, table: FeatureTable) -> np.ndarray:
        """Return the tokens `[N, C, S]` int64 of raw features. Raises `DataError` unless the columns are the same."""
        return self.codec.encode(self.pipeline.transform(table))

    def decode(self, tokens_NCS: np.ndarray) -> np.ndarray:
        """Return the features `[N, D]` float64 that tokens stand for, in raw units of the cleaned columns.

        Raises `DataError` for tokens of another shape or beyond a codebook.
        """
        return self.pipeline.invert(self.codec.decode(tokens_NCS))
