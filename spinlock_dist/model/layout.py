"""How ragged categories lie in one padded tensor.

Letters at the end of tensor names, everywhere in the model and its training:
    M members (configurations trained in lock step)    B rows of a batch        N rows of a split
    G groups (categories)                               F features of a group, padded to the largest
    H hidden units                                      Z latent dimensions, padded      K codes, padded
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.categories.category import Category


class GroupLayout:
    """Scatter of features `[..., D]` into groups `[..., G, F]` and back. Padding is zero.

    Attributes: `columns` `[G, F]` source column of every cell; `mask` `[G, F]` 1 where a cell holds a feature;
    `sizes` the number of features of each group.
    """

    def __init__(self, categories: Sequence[Category], device: torch.device | str = "cpu"):
        self.sizes = [len(category) for category in categories]
        width = max(self.sizes)
        self.columns = torch.zeros(len(categories), width, dtype=torch.long, device=device)
        self.mask = torch.zeros(len(categories), width, device=device)
        for group, category in enumerate(categories):
            self.columns[group, : len(category)] = torch.tensor(category.columns, device=device)
            self.mask[group, : len(category)] = 1.0
        self._order = torch.argsort(self.columns[self.mask.bool()])

    def cells(self, columns: np.ndarray) -> Tensor:
        """Return where the given columns of `[..., D]` lie in `[..., G * F]`."""
        used = torch.nonzero(self.mask.flatten()).flatten()
        return used[self._order][torch.as_tensor(columns, device=used.device)]

    def pack(self, values: Tensor) -> Tensor:
        """Return `[..., D]` as `[..., G, F]`."""
        return values[..., self.columns] * self.mask

    def unpack(self, grouped: Tensor) -> Tensor:
        """Return `[..., G, F]` as `[..., D]`."""
        return grouped[..., self.mask.bool()][..., self._order]
