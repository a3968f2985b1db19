"""One decoder that sees the tokens of all categories and rebuilds all features (Spinlock's arrangement)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Generator, Tensor, nn

from spinlock_dist.model.layout import GroupLayout


class SharedDecoder(nn.Module):
    """Linear, ReLU, Linear from all latents together to all features, per member."""

    def __init__(self, layout: GroupLayout, dims_MGL: Tensor, hidden: int):
        super().__init__()
        members = len(dims_MGL)
        self.dims_MGL, self.layout = dims_MGL, layout
        buckets = [dims_MGL[:, bucket.groups] for bucket in layout.buckets]
        self.levels = dims_MGL.shape[-1]
        self.hidden_MGZH = nn.ParameterList(
            nn.Parameter(torch.zeros(members, dims.shape[1], width, hidden))
            for dims in buckets
            for width in dims.amax(dim=(0, 1)).tolist()
        )
        self.hidden_bias_MH = nn.Parameter(torch.zeros(members, hidden))
        self.out_MHGF = nn.Parameter(torch.zeros(members, hidden, *layout.mask.shape))
        self.out_bias_MGF = nn.Parameter(torch.zeros(members, *layout.mask.shape))

    def forward(self, codes_MGBZ: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The reconstruction of every bucket, `[M, G, B, F]`, from the codes of all levels of all buckets."""
        hidden_MBH = self.hidden_bias_MH[:, None]
        for codes, weights_MGZH in zip(chain(*codes_MGBZ), self.hidden_MGZH, strict=True):
            codes_MBI = codes.transpose(1, 2).flatten(2)
            hidden_MBH = hidden_MBH + codes_MBI @ weights_MGZH.flatten(1, 2)
        output_MBGF = (torch.relu(hidden_MBH) @ self.out_MHGF.flatten(2)).unflatten(-1, self.layout.mask.shape)
        parts = self.layout.split(output_MBGF + self.out_bias_MGF[:, None])
        return [part_MBGF.transpose(1, 2) for part_MBGF in parts]

    @torch.no_grad()
    def start(self, generators_M: Sequence[Generator]) -> None:
        """Draw the weights of every member (He et al. 2015), cell by cell in use, so that padding does not change
        them."""
        found = [np.zeros(each.shape, np.float32) for each in self.hidden_MGZH]
        output_MHGF = np.zeros(self.out_MHGF.shape, np.float32)
        hidden = self.out_MHGF.shape[1]
        for member, (dims_GL, generator) in enumerate(zip(self.dims_MGL.tolist(), generators_M, strict=True)):
            fan_in = sum(map(sum, dims_GL))
            for level in range(self.levels):
                for (bucket, row), dims_L in zip(self.layout.places, dims_GL, strict=True):
                    drawn_ZH = torch.randn(dims_L[level], hidden, generator=generator) * (2 / fan_in) ** 0.5
                    found[bucket * self.levels + level][member, row, : dims_L[level]] = drawn_ZH
            for group, features in enumerate(self.layout.sizes):
                drawn_HF = torch.randn(hidden, features, generator=generator) * (1 / hidden) ** 0.5
                output_MHGF[member, :, group, :features] = drawn_HF
        for weights, drawn in zip((*self.hidden_MGZH, self.out_MHGF), (*found, output_MHGF), strict=True):
            weights.copy_(torch.from_numpy(drawn), non_blocking=True)
