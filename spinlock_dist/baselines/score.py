"""The metrics of a codec, by the same definitions as a trained network's."""

from __future__ import annotations

import numpy as np

from spinlock_dist.baselines.codec import Codec
from spinlock_dist.metrics.codebook_usage import codebook_usage
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.metrics.score import score
from spinlock_dist.metrics.scored import Codebook, Scored
from spinlock_dist.prepare import PreparedData


def score_codec(codec: Codec, data: PreparedData, split: str) -> Metrics:
    """The metrics on `train`, `validation` or `test`. Only finals and export may look at `test`."""
    train_ND, target_ND = data.values[data.split.train], data.values[data.split.part(split)]
    tokens_NCS = codec.encode(target_ND)
    output_ND = codec.decode(tokens_NCS)
    return score(
        Scored(
            split=split,
            target_ND=target_ND,
            output_ND=output_ND,
            train_mean_D=train_ND.mean(axis=0, dtype=np.float64),
            raw_target_ND=data.pipeline.invert(target_ND),
            raw_output_ND=data.pipeline.invert(output_ND),
            categories=codec.categories,
            spectra=[each.spectrum for each in data.characteristics],
            bits_C=codec.bits,
            codebooks=_codebooks(codec, codec.encode(train_ND), tokens_NCS),
        )
    )


def _codebooks(codec: Codec, train_NCS: np.ndarray, split_NCS: np.ndarray) -> list[Codebook]:
    found = []
    for (category, place), codes in np.ndenumerate(codec.codes):
        if codes > 1:
            train, there = (
                codebook_usage(np.bincount(tokens_NCS[:, category, place], minlength=codes))
                for tokens_NCS in (train_NCS, split_NCS)
            )
            of = codec.categories[category]
            found.append(Codebook(category=of.name, level=str(place + 1), dim=len(of), train=train, split=there))
    return found
