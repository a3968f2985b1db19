"""A codec of normalized features: one coder per category, and the registry of coders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch
from torch import Generator

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.errors import DataError
from spinlock_dist.registry import Registry
from spinlock_dist.seeding import derive_seed


class CategoryCodec(Protocol):
    """Coder of one category's features `[N, F]`: S codebooks, so S tokens a row."""

    @classmethod
    def fit(cls, x_NF: np.ndarray, codes_L: np.ndarray, generator: Generator, beam: int) -> Self:
        """Fit to training rows within sum(log2 `codes_L`) bits. `beam` is the width with which a search for tokens, if
        there is one, is made: a network's `quantizer.beam`, so that none of the two searches harder."""

    @property
    def codes(self) -> tuple[int, ...]:
        """Sizes of the S codebooks."""

    def encode(self, x_NF: np.ndarray) -> np.ndarray:
        """Tokens `[N, S]` int64."""

    def decode(self, tokens_NS: np.ndarray) -> np.ndarray:
        """Features `[N, F]` float32."""


CODECS: Registry[type[CategoryCodec]] = Registry(
    "codec",
    {
        "joint_least_squares": "spinlock_dist.baselines.joint_least_squares:JointLeastSquares",
        "residual_kmeans": "spinlock_dist.baselines.residual_kmeans:ResidualKMeans",
        "pca_scalar": "spinlock_dist.baselines.pca_scalar:PCAScalar",
    },
)


@dataclass(frozen=True)
class Codec:
    """Coders of all categories, in their order. Tokens are `[N, C, S]`, S that of the category with most codebooks;
    where a category has fewer, its last tokens are 0 of 1 code."""

    name: str
    """In `CODECS`."""
    categories: tuple[Category, ...]
    coders: tuple[CategoryCodec, ...]

    @cached_property
    def codes(self) -> np.ndarray:
        """Sizes of the codebooks `[C, S]`, 1 where there is none."""
        codes_CS = np.ones((len(self.coders), max(len(coder.codes) for coder in self.coders)), dtype=np.int64)
        for index, coder in enumerate(self.coders):
            codes_CS[index, : len(coder.codes)] = coder.codes
        return codes_CS

    @property
    def bits(self) -> np.ndarray:
        """Bits per sample of each category `[C]`: log2 of its codes, summed over its codebooks."""
        return np.log2(self.codes).sum(axis=1)

    @property
    def bits_per_sample(self) -> float:
        """Bits per sample of all categories together."""
        return float(self.bits.sum())

    def encode(self, values_ND: np.ndarray) -> np.ndarray:
        """The tokens `[N, C, S]` int64 of normalized values `[N, D]`."""
        tokens_NCS = np.zeros((len(values_ND), *self.codes.shape), dtype=np.int64)
        for index, (category, coder) in enumerate(zip(self.categories, self.coders, strict=True)):
            tokens_NCS[:, index, : len(coder.codes)] = coder.encode(values_ND[:, category.columns])
        return tokens_NCS

    def decode(self, tokens_NCS: np.ndarray) -> np.ndarray:
        """The normalized values `[N, D]` float32 of tokens.

        Raises `DataError` for tokens of another shape or beyond a codebook.
        """
        tokens = np.asarray(tokens_NCS)
        if tokens.ndim != 3 or tokens.shape[1:] != self.codes.shape:
            raise DataError(f"tokens must be [N, {self.codes.shape[0]}, {self.codes.shape[1]}], are {tokens.shape}")
        if ((tokens < 0) | (tokens >= self.codes)).any():
            raise DataError("a token lies beyond its codebook; were these made by another codec?")
        values_ND = np.empty((len(tokens), sum(map(len, self.categories))), dtype=np.float32)
        for index, (category, coder) in enumerate(zip(self.categories, self.coders, strict=True)):
            values_ND[:, category.columns] = coder.decode(tokens[:, index, : len(coder.codes)])
        return values_ND


def fit_codec(
    name: str, values_ND: np.ndarray, categories: Sequence[Category], plan: CapacityPlan, seed: int, beam: int
) -> Codec:
    """Fit the codec `name` to normalized training rows `[N, D]`, each category within its bits of `plan`.

    `beam`: partial choices that a search for tokens keeps, as `quantizer.beam` says for the network.

    A category's result does not depend on the others. Raises `ConfigError` for an unknown name.
    """
    kind = CODECS[CODECS.check(name)]
    coders = []
    for index, category in enumerate(categories):
        generator = torch.Generator().manual_seed(derive_seed(seed, name, category.name))
        coders.append(kind.fit(values_ND[:, category.columns], plan.codebook_sizes(index), generator, beam))
    return Codec(name, tuple(categories), tuple(coders))
