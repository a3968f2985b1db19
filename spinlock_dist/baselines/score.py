"""The figures of a codec, by the same definitions as a trained network's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinlock_dist.baselines.codec import Codec
from spinlock_dist.metrics.codebook import CodebookUsage, codebook_usage, mean_over_codebooks
from spinlock_dist.metrics.reconstruction import (
    RAW_FLOOR,
    fraction_unexplained,
    fvu_by_category,
    imbalance,
    imbalance_by_chance,
    mse_by_category,
)
from spinlock_dist.prepare import PreparedData


@dataclass(frozen=True, kw_only=True)
class CodecScore:
    """Fields of `metrics.record.Metrics` under the same names, as far as they exist without a latent space."""

    split: str
    fvu: dict[str, float]
    mse_raw: dict[str, float]
    """Per category: mean over its features of the squared error in raw units."""
    fvu_mean: float
    fvu_worst: float
    worst_category: str
    imbalance: float
    imbalance_by_chance: float
    """The imbalance that equally good categories would show on rows like these."""
    imbalance_raw: float
    """The same ratio as `imbalance` on `mse_raw`."""
    utilization: float
    """Mean over codebooks of codes used at least once on the training rows / K."""
    dead_codes: int
    """Codes never used on the training rows, all codebooks together."""
    bits_per_sample: float


def score_codec(codec: Codec, data: PreparedData, split: str) -> CodecScore:
    """Return the figures on `train`, `validation` or `test`. Only finals and export may look at `test`."""
    train_ND, target_ND = data.values[data.split.train], data.values[data.split.part(split)]
    train_mean_D = train_ND.mean(axis=0, dtype=np.float64)
    output_ND = codec.decode(codec.encode(target_ND))
    fvu = fvu_by_category(target_ND, output_ND, train_mean_D, codec.categories)
    mse_raw = mse_by_category(data.pipeline.invert(target_ND), data.pipeline.invert(output_ND), codec.categories)
    worst = max(fvu, key=lambda name: fvu[name])
    books = _usage(codec, codec.encode(train_ND))
    return CodecScore(
        split=split,
        fvu=fvu,
        mse_raw=mse_raw,
        fvu_mean=fraction_unexplained(target_ND, output_ND, train_mean_D, range(target_ND.shape[1])),
        fvu_worst=fvu[worst],
        worst_category=worst,
        imbalance=imbalance(fvu.values()),
        imbalance_by_chance=imbalance_by_chance(target_ND, output_ND, train_mean_D, codec.categories),
        imbalance_raw=imbalance(mse_raw.values(), RAW_FLOOR),
        utilization=mean_over_codebooks([book.utilization for book in books]),
        dead_codes=sum(book.codes - book.used for book in books),
        bits_per_sample=codec.bits_per_sample,
    )


def _usage(codec: Codec, tokens_NCS: np.ndarray) -> list[CodebookUsage]:
    return [
        codebook_usage(np.bincount(tokens_NCS[(slice(None), *place)], minlength=codes))
        for place, codes in np.ndenumerate(codec.codes)
        if codes > 1
    ]
