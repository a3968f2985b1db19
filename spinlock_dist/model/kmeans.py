"""k-means for codebook initialization: one set of rows, or those of all members and categories in one batch."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding, max_pool2d

from spinlock_dist import compiled

CELLS = 1 << 28
"""Distances held at once; the problems of a batch that has more are solved in parts."""


def kmeans(x_NZ: Tensor, clusters: int, iterations: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Centres `[K, Z]` and each row's nearest `[N]` by Lloyd's algorithm from a k-means++ start.

    A cluster that loses all its rows restarts at the row farthest from its centre. With fewer distinct rows than
    clusters some centres coincide. `generator` lives on the CPU, so that a seed gives one result on every device.
    """
    draws_K = torch.rand(clusters, generator=generator, dtype=torch.float64)
    if x_NZ.device.type == "cpu" and x_NZ.dtype == torch.float32 and compiled.missing() is None:
        return compiled_kmeans(x_NZ, draws_K, iterations)
    used_1K = torch.ones(1, clusters, dtype=torch.bool, device=x_NZ.device)
    centres_1KZ, _, nearest_1N = batched_kmeans(x_NZ[None], draws_K.to(x_NZ.device)[None], used_1K, iterations)
    return centres_1KZ[0], nearest_1N[0]


def compiled_kmeans(x_NZ: Tensor, draws_K: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Centres `[K, Z]` and each row's nearest `[N]`, from uniform `draws_K` in [0, 1), by compiled loops on the CPU."""
    from spinlock_dist.compiled.kmeans import kmeans as kernel

    centres_KZ, nearest_N = kernel(x_NZ.T.contiguous().numpy(), draws_K.numpy(), iterations)
    return torch.from_numpy(centres_KZ), torch.from_numpy(nearest_N)


def batched_kmeans(x_PNZ: Tensor, draws_PK: Tensor, used_PK: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `kmeans` finds for each of P sets of rows: centres `[P, K, Z]`, rows of each `[P, K]`, nearest `[P, N]`.

    `used_PK` tells which clusters each has, the first ones; the others are padding, with centre zero and no rows. The
    calls do not grow with P, and none waits for the device: the iterations are fixed, as a set that has converged stays
    as it is.
    """
    size = max(1, CELLS // (x_PNZ.shape[1] * draws_PK.shape[1]))
    parts = zip(x_PNZ.split(size), draws_PK.split(size), used_PK.split(size), strict=True)
    solved = [_lloyd(*part, iterations) for part in parts]
    centres, counts, nearest = (torch.cat(each) for each in zip(*solved, strict=True))
    return centres, counts, nearest


def nearest_code(bias_PK: Tensor, codes_PKZ: Tensor, x_PNZ: Tensor) -> Tensor:
    """For every row the code with the largest product plus bias, `[P, N]`.

    With minus half of the code's square as bias it is the nearest: |x|^2 is the same for all codes.
    """
    products_PKN = torch.baddbmm(bias_PK[..., None], codes_PKZ, x_PNZ.mT)
    # Pooling over codes, with rows as channels: on a CPU ten times as fast as argmax, which is not vectorized.
    images = products_PKN[:, :, None].permute(0, 3, 1, 2)
    return max_pool2d(images, (codes_PKZ.shape[1], 1), return_indices=True)[1].view(x_PNZ.shape[:2])


def _lloyd(x_PNZ: Tensor, draws_PK: Tensor, used_PK: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    problems, rows, _ = x_PNZ.shape
    clusters = draws_PK.shape[1]
    x_PNZ = x_PNZ.contiguous()
    flat_x, ones = x_PNZ.flatten(0, 1), x_PNZ.new_ones(problems * rows)
    first_P1 = torch.arange(problems, device=x_PNZ.device)[:, None]
    never_PK = torch.zeros_like(used_PK, dtype=x_PNZ.dtype).masked_fill_(~used_PK, -torch.inf)

    def assigned(centres_PKZ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bias_PK = torch.sub(never_PK, centres_PKZ.square().sum(dim=2), alpha=0.5)
        nearest_PN = nearest_code(bias_PK, centres_PKZ, x_PNZ)
        place_PN = nearest_PN + first_P1 * clusters
        counts = x_PNZ.new_zeros(problems * clusters).index_add_(0, place_PN.flatten(), ones)
        return nearest_PN, place_PN, counts.view(problems, clusters)

    centres_PKZ = _plus_plus(x_PNZ, draws_PK) * used_PK[..., None]
    for _ in range(iterations):
        _, place_PN, counts_PK = assigned(centres_PKZ)
        flat_centres = centres_PKZ.flatten(0, 1)
        sums_PKZ = torch.zeros_like(flat_centres).index_add_(0, place_PN.flatten(), flat_x).view_as(centres_PKZ)
        distance_PN = (x_PNZ - embedding(place_PN, flat_centres)).square().sum(dim=2)
        farthest_PR = distance_PN.topk(min(clusters, rows)).indices
        empty_PK = (counts_PK == 0) & used_PK
        rank_PK = empty_PK.cumsum(dim=1).sub_(1).clamp_(0, farthest_PR.shape[1] - 1)
        restarts_PKZ = embedding(farthest_PR.gather(1, rank_PK) + first_P1 * rows, flat_x)
        means_PKZ = sums_PKZ / counts_PK.clamp(min=1)[..., None]
        # A set that uses no cluster has all its rows in the first one, whose centre has to stay zero.
        centres_PKZ = torch.where(empty_PK[..., None], restarts_PKZ, means_PKZ) * used_PK[..., None]
    nearest_PN, _, counts_PK = assigned(centres_PKZ)
    return centres_PKZ, counts_PK, nearest_PN


def _plus_plus(x_PNZ: Tensor, draws_PK: Tensor) -> Tensor:
    """A k-means++ start (Arthur & Vassilvitskii 2007): rows drawn in proportion to squared distance."""
    problems, rows, _ = x_PNZ.shape
    flat_x, first_P1 = x_PNZ.flatten(0, 1), torch.arange(problems, device=x_PNZ.device)[:, None] * rows
    first_draw_P1, *further = draws_PK.split(1, dim=1)
    chosen_P1Z = [embedding((first_draw_P1 * rows).long() + first_P1, flat_x)]
    distance_PN = (x_PNZ - chosen_P1Z[0]).square_().sum(dim=2)
    for draw_P1 in further:
        mass_PN = distance_PN.cumsum(dim=1, dtype=torch.float64)
        row_P1 = torch.searchsorted(mass_PN, draw_P1 * mass_PN[:, -1:]).clamp_(max=rows - 1)
        chosen_P1Z.append(embedding(row_P1 + first_P1, flat_x))
        distance_PN = torch.minimum(distance_PN, (x_PNZ - chosen_P1Z[-1]).square_().sum(dim=2))
    return torch.cat(chosen_P1Z, dim=1)
