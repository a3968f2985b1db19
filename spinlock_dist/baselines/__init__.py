"""Codecs without a network: what a trained one has to beat at the same bits.

A new one is a module here with a `CategoryCodec`, and a line in `CODECS`.
"""

from spinlock_dist.baselines.codec import CODECS, CategoryCodec, Codec, fit_codec
from spinlock_dist.baselines.score import score_codec

__all__ = ["CODECS", "CategoryCodec", "Codec", "fit_codec", "score_codec"]
