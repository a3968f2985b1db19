"""One decoder that sees the tokens of all categories and rebuilds all features (Spinlock's arrangement)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

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
    def start(self, member: int, generator: Generator) -> None:
        """Draw a member's weights (He et al. 2015), cell by cell in use, so that padding does not change them."""
        fan_in = int(self.dims_MGL[member].sum())
        for level, dims_G in enumerate(self.dims_MGL[member].T.tolist()):
            for (bucket, row), dims in zip(self.layout.places, dims_G, strict=True):
                weights_MGZH = self.hidden_MGZH[bucket * self.levels + level]
                drawn_ZH = torch.randn(dims, weights_MGZH.shape[-1], generator=generator) * (2 / fan_in) ** 0.5
                weights_MGZH[member, row, :dims] = drawn_ZH.to(weights_MGZH)
        hidden = self.out_MHGF.shape[1]
        for group, features in enumerate(self.layout.sizes):
            drawn_HF = torch.randn(hidden, features, generator=generator) * (1 / hidden) ** 0.5
            self.out_MHGF[member, :, group, :features] = drawn_HF.to(self.out_MHGF)
