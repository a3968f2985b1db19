"""k-means for codebook initialization, on any device, from a generator that is handed in."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from spinlock_dist import compiled


def kmeans(x_NZ: Tensor, clusters: int, iterations: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Centres `[K, Z]` and the number of rows nearest to each `[K]` by Lloyd's algorithm from a k-means++ start.

    A cluster that loses all its rows restarts at the row farthest from its centre. With fewer distinct rows than
    clusters some centres coincide. `generator` lives on the CPU, so that a seed gives one result on every device.
    """
    draws_K = torch.rand(clusters, generator=generator, dtype=torch.float64)
    if x_NZ.device.type == "cpu" and x_NZ.dtype == torch.float32 and compiled.missing() is None:
        return _compiled(x_NZ, draws_K, iterations)
    return lloyd(x_NZ, draws_K.to(x_NZ.device), iterations)


def _compiled(x_NZ: Tensor, draws_K: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    from spinlock_dist.compiled.kmeans import kmeans as kernel

    centres_KZ, nearest_N = kernel(x_NZ.T.contiguous().numpy(), draws_K.numpy(), iterations)
    return torch.from_numpy(centres_KZ), torch.bincount(torch.from_numpy(nearest_N), minlength=len(centres_KZ))


def lloyd(x_NZ: Tensor, draws_K: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """What `kmeans` returns, in torch, from uniform `draws` in [0, 1)."""
    clusters = len(draws_K)
    centres_KZ = _plus_plus(x_NZ, draws_K)
    for _ in range(iterations):
        nearest_N, distance_N = assign(x_NZ, centres_KZ)
        counts_K = torch.bincount(nearest_N, minlength=clusters)
        sums_KZ = torch.zeros_like(centres_KZ).index_add_(0, nearest_N, x_NZ)
        farthest_K = x_NZ[distance_N.topk(min(clusters, len(x_NZ))).indices]
        rank_K = (counts_K == 0).cumsum(0).sub(1).clamp(0, len(farthest_K) - 1)
        means_KZ = sums_KZ / counts_K.clamp(min=1)[:, None]
        centres_KZ = torch.where((counts_K == 0)[:, None], farthest_K[rank_K], means_KZ)
    return centres_KZ, torch.bincount(assign(x_NZ, centres_KZ)[0], minlength=clusters)


def assign(x_NZ: Tensor, centres_KZ: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's nearest centre `[N]` and its squared distance `[N]`."""
    distance, nearest = torch.cdist(x_NZ, centres_KZ).min(dim=1)
    return nearest, distance.square()


def _plus_plus(x_NZ: Tensor, draws: Tensor) -> Tensor:
    """A k-means++ start (Arthur & Vassilvitskii 2007): rows drawn in proportion to squared distance."""
    first = (draws[0] * len(x_NZ)).long()
    chosen = [x_NZ[first]]
    distance_N = (x_NZ - chosen[0]).square().sum(dim=1)
    for draw in draws[1:]:
        mass_N = distance_N.double().cumsum(0)
        row = torch.searchsorted(mass_N, draw * mass_N[-1]).clamp(max=len(x_NZ) - 1)
        chosen.append(x_NZ[row])
        distance_N = torch.minimum(distance_N, (x_NZ - chosen[-1]).square().sum(dim=1))
    return torch.stack(chosen)
