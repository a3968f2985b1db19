"""Codes that add up: a row is the sum of one code of every codebook, and its tokens are chosen together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve
from torch import Generator, Tensor

from spinlock_dist import compiled
from spinlock_dist.model.kmeans import kmeans

CELLS = 1 << 22
"""Numbers in the largest array of a search without compiled code; more rows are searched in parts."""


@dataclass(frozen=True)
class AdditiveCodec:
    """Coder of one category by `codebooks` `[K, F]` float32, coarse to fine, searched by beams of `beam`."""

    codebooks: tuple[np.ndarray, ...]
    beam: int

    @property
    def codes(self) -> tuple[int, ...]:
        """Codes of each codebook."""
        return tuple(map(len, self.codebooks))

    def encode(self, x_NF: np.ndarray) -> np.ndarray:
        """The tokens `[N, S]` of rows, chosen together for the least squared error."""
        return search(self.codebooks, x_NF, self.beam)

    def decode(self, tokens_NS: np.ndarray) -> np.ndarray:
        """The sum of the chosen codes `[N, F]` float32."""
        return np.sum([codes_KF[tokens_NS[:, place]] for place, codes_KF in enumerate(self.codebooks)], axis=0)


def residual_codebooks(
    x_NF: np.ndarray, codes_S: Sequence[int], iterations: int, generator: Generator
) -> tuple[np.ndarray, ...]:
    """Codebooks of sizes `codes_S`, each the k-means of what those before it left of rows `[N, F]`."""
    residual_NF = torch.from_numpy(np.ascontiguousarray(x_NF, dtype=np.float32))
    codebooks = []
    for codes in codes_S:
        centres_KF, nearest_N = kmeans(residual_NF, int(codes), iterations, generator)
        codebooks.append(centres_KF.numpy())
        residual_NF = residual_NF - centres_KF[nearest_N]
    return tuple(codebooks)


def search(codebooks: Sequence[np.ndarray], x_NF: np.ndarray, beam: int) -> np.ndarray:
    """Tokens `[N, S]` int64 of rows, found by beam search: from one codebook to the next the `beam` best partial sums
    are kept (Babenko & Lempitsky 2014). 1 takes the nearest code of what is left, codebook by codebook.
    """
    x = np.ascontiguousarray(x_NF, dtype=np.float32)
    if compiled.missing() is None:
        from spinlock_dist.compiled.additive import search as kernel

        codes_KF = np.concatenate(codebooks)
        tokens_NS: np.ndarray = kernel(x, codes_KF, codes_KF @ codes_KF.T, _sizes(codebooks), beam)
        return tokens_NS
    rows = max(1, CELLS // (beam * max(map(len, codebooks)) * x.shape[1]))
    tables = [torch.from_numpy(codes_KF) for codes_KF in codebooks]
    parts = [search_in_torch(tables, torch.from_numpy(x[at : at + rows]), beam) for at in range(0, len(x) or 1, rows)]
    return torch.cat(parts).numpy()


def search_in_torch(codebooks: Sequence[Tensor], x_NF: Tensor, beam: int) -> Tensor:
    """What `search` returns, in torch."""
    left_NWF, tokens_NWS = x_NF[:, None], torch.zeros(len(x_NF), 1, 0, dtype=torch.long)
    for codes_KF in codebooks:
        distance_NI = (left_NWF[:, :, None] - codes_KF).square().sum(dim=-1).flatten(1)
        best_NW = distance_NI.topk(min(beam, distance_NI.shape[1]), largest=False).indices
        before_NW, code_NW = best_NW // len(codes_KF), best_NW % len(codes_KF)

        def kept(each_NWX: Tensor, before_NW: Tensor = before_NW) -> Tensor:
            return each_NWX.gather(1, before_NW[..., None].expand(-1, -1, each_NWX.shape[-1]))

        left_NWF = kept(left_NWF) - codes_KF[code_NW]
        tokens_NWS = torch.cat([kept(tokens_NWS), code_NW[..., None]], dim=-1)
    return tokens_NWS[:, 0]


def refit(
    codebooks: Sequence[np.ndarray], x_NF: np.ndarray, tokens_NS: np.ndarray, ridge: float
) -> tuple[np.ndarray, ...]:
    """The codebooks of least squared error for rows `[N, F]` with these tokens, all of them together.

    `ridge` is how many rows' worth a code is held where it is: one that few rows have moves little, one without rows
    not at all. The squared error of the rows never grows.
    """
    x, sizes_S = np.ascontiguousarray(x_NF, dtype=np.float32), _sizes(codebooks)
    if compiled.missing() is None:
        from spinlock_dist.compiled.additive import normal_equations as kernel

        counts_KK, sums_KF = kernel(x, tokens_NS, sizes_S)
    else:
        counts_KK, sums_KF = normal_equations(x, tokens_NS, sizes_S)
    before_KF = np.concatenate(codebooks).astype(np.float64)
    held_KK = counts_KK + ridge * np.eye(len(counts_KK))
    moved_KF = before_KF + solve(held_KK, sums_KF - counts_KK @ before_KF, assume_a="pos")
    return tuple(np.split(moved_KF.astype(np.float32), np.cumsum(sizes_S)[:-1]))


def normal_equations(x_NF: np.ndarray, tokens_NS: np.ndarray, codes_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the compiled function of this name returns, in NumPy."""
    chosen_NS = tokens_NS + np.cumsum(codes_S) - codes_S
    one_hot_NK = np.zeros((len(x_NF), codes_S.sum()))
    np.put_along_axis(one_hot_NK, chosen_NS, 1.0, axis=1)
    return one_hot_NK.T @ one_hot_NK, one_hot_NK.T @ x_NF.astype(np.float64)


def _sizes(codebooks: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(codes_KF) for codes_KF in codebooks])
