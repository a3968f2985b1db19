"""Codecs without a network: what a trained one has to beat at the same bits."""

from spinlock_dist.baselines.codec import CODECS, CategoryCodec, Codec, fit_codec
from spinlock_dist.baselines.pca_scalar import PCAScalar
from spinlock_dist.baselines.residual_kmeans import ResidualKMeans
from spinlock_dist.baselines.score import CodecScore, score_codec

__all__ = [
    "CODECS",
    "CategoryCodec",
    "Codec",
    "CodecScore",
    "PCAScalar",
    "ResidualKMeans",
    "fit_codec",
    "score_codec",
]
