"""How ragged categories lie in one padded tensor.

Categories differ in features, latent dimensions and codes. A loop over them in torch would make 25 small calls where
one large one does; so their sizes are padded to the largest and all are computed at once, in a few buckets of similar
size. (In compiled code a call costs nothing: on a processor it takes category by category, each at its own size.)

Padding needs no masks in the model, by induction over steps. Suppose that every weight of a padded cell is zero, as
initialization leaves it. Inputs are zero in padding, so the gradient of weights that read it, input times gradient, is
zero. Outputs are zero there and so are targets, so the gradient of weights and biases that write it is zero. Latents of
padded dimensions are zero, hence their codes, and decoders read them with zero weights. Adam leaves a weight at zero
whose gradients were all zero (there is no weight decay), and the next step finds what this one found.

Letters at the end of tensor names, everywhere in the model and its training:
    M members (configurations trained in lock step)    B rows of a batch        N rows of a split
    G groups (categories)                               F features of a group, padded to the largest
    H hidden units                                      Z latent dimensions, padded      K codes, padded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from spinlock_dist.categories.category import Category

BUCKET_COST = 30
"""Cells of padding that are as dear as the calls of one more bucket (benchmarks/step.py, one member)."""


@dataclass(frozen=True)
class Bucket:
    """Groups of similar size, which are computed together, padded to the largest of *them*."""

    groups: list[int]
    width: int


def make_buckets(sizes: Sequence[int]) -> list[Bucket]:
    """Share out groups so that padded cells, plus `BUCKET_COST` a bucket, are fewest. Buckets go by size.

    They depend on the sizes alone: whoever trains together has the same.
    """
    order = sorted(range(len(sizes)), key=lambda group: (sizes[group], group))
    best: list[tuple[int, int]] = [(0, 0)]  # by number of groups placed: the cost, and where the last bucket starts
    for stop in range(1, len(order) + 1):
        width = sizes[order[stop - 1]]
        best.append(min((best[at][0] + BUCKET_COST + width * (stop - at), at) for at in range(stop)))
    buckets: list[Bucket] = []
    stop = len(order)
    while stop:
        start = best[stop][1]
        buckets.insert(0, Bucket(sorted(order[start:stop]), sizes[order[stop - 1]]))
        stop = start
    return buckets


class GroupLayout:
    """Scatter of features `[..., D]` into groups `[..., G, F]` and back. Padding is zero.

    Attributes: `columns` `[G, F]` source column of every cell; `mask` `[G, F]` 1 where a cell holds a feature;
    `sizes` the number of features of each group; `buckets` which groups are computed together, and `places` the bucket
    of each group and its place in it.
    """

    def __init__(self, categories: Sequence[Category], device: torch.device | str = "cpu"):
        self.sizes = [len(category) for category in categories]
        width = max(self.sizes)
        columns = np.zeros((len(categories), width), np.int64)
        used = np.arange(width) < np.array(self.sizes)[:, None]
        columns[used] = np.concatenate([category.columns for category in categories])
        # Made on the host and copied whole: a device would be waited for once a category.
        self.columns, self.mask = torch.from_numpy(columns).to(device), torch.from_numpy(used).float().to(device)
        self._cells = torch.from_numpy(np.flatnonzero(used)[np.argsort(columns[used])]).to(device)
        self.buckets = make_buckets(self.sizes)
        placed = [
            (group, bucket, row) for bucket, each in enumerate(self.buckets) for row, group in enumerate(each.groups)
        ]
        self.places = [(bucket, row) for _, bucket, row in sorted(placed)]
        self._groups = [torch.tensor(bucket.groups, device=device) for bucket in self.buckets]
        order = np.concatenate([bucket.groups for bucket in self.buckets])
        self._unsorted = torch.from_numpy(np.argsort(order)).to(device)

    def pack(self, values: Tensor) -> Tensor:
        """From `[..., D]` to `[..., G, F]`."""
        return values[..., self.columns] * self.mask

    def unpack(self, grouped: Tensor) -> Tensor:
        """From `[..., G, F]` to `[..., D]`."""
        return grouped.flatten(-2)[..., self._cells]

    def split(self, grouped: Tensor) -> list[Tensor]:
        """From `[..., G, F]` to each bucket's `[..., g, f]`, without the padding that other buckets need."""
        return [
            grouped[..., : bucket.width].index_select(-2, groups)
            for bucket, groups in zip(self.buckets, self._groups, strict=True)
        ]

    def select(self, values: Tensor, dim: int) -> list[Tensor]:
        """The values of all groups, an axis of length G, bucket by bucket."""
        return [values.index_select(dim, groups.to(values.device)) for groups in self._groups]

    def join(self, parts: Sequence[Tensor], dim: int) -> Tensor:
        """Values of every bucket's groups as those of all; what lies behind the axis is padded to the widest."""
        width = max(part.shape[-1] for part in parts)
        padded = [pad(part, (0, width - part.shape[-1])) for part in parts]
        return torch.cat(padded, dim).index_select(dim, self._unsorted)
