"""The figures of a codec, by the same definitions as a trained network's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinlock_dist.codecs.codec import Codec
from spinlock_dist.metrics.codebook import codebook_usage, mean_over_codebooks
from spinlock_dist.metrics.reconstruction import fraction_unexplained, fvu_by_category, imbalance
from spinlock_dist.prepare import PreparedData


@dataclass(frozen=True, kw_only=True)
class CodecScore:
    """Fields of `metrics.record.Metrics` under the same names, as far as they exist without a latent space."""

    split: str
    fvu: dict[str, float]
    fvu_mean: float
    fvu_worst: float
    imbalance: float
    utilization: float
    """Mean over codebooks of codes used at least once on the training rows / K."""
    bits_per_sample: float


def score_codec(codec: Codec, data: PreparedData, split: str) -> CodecScore:
    """Return the figures on `train`, `validation` or `test`. Only finals and export may look at `test`."""
    train_ND, target_ND = data.values[data.split.train], data.values[data.split.part(split)]
    train_mean_D = train_ND.mean(axis=0, dtype=np.float64)
    output_ND = codec.decode(codec.encode(target_ND))
    fvu = fvu_by_category(target_ND, output_ND, train_mean_D, codec.categories)
    return CodecScore(
        split=split,
        fvu=fvu,
        fvu_mean=fraction_unexplained(target_ND, output_ND, train_mean_D, range(target_ND.shape[1])),
        fvu_worst=max(fvu.values()),
        imbalance=imbalance(fvu.values()),
        utilization=_utilization(codec, codec.encode(train_ND)),
        bits_per_sample=codec.bits_per_sample,
    )


def _utilization(codec: Codec, tokens_NCS: np.ndarray) -> float:
    books = [
        codebook_usage(np.bincount(tokens_NCS[(slice(None), *place)], minlength=codes))
        for place, codes in np.ndenumerate(codec.codes)
        if codes > 1
    ]
    return mean_over_codebooks([book.utilization for book in books])
