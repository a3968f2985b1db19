"""One decoder that sees the tokens of all categories and rebuilds all features (Spinlock's arrangement)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from spinlock_dist.model.layout import GroupLayout


class SharedDecoder(nn.Module):
    """Linear, ReLU, Linear from all latents together to all features, per member."""

    def __init__(self, layout: GroupLayout, dims_MGL: Tensor, hidden: int):
        super().__init__()
        members, groups, _ = dims_MGL.shape
        self.dims_MGL, self.layout = dims_MGL, layout
        self.hidden_MGZH = nn.ParameterList(
            nn.Parameter(torch.zeros(members, groups, int(width), hidden)) for width in dims_MGL.amax(dim=(0, 1))
        )
        self.hidden_bias_MH = nn.Parameter(torch.zeros(members, hidden))
        self.out_MHGF = nn.Parameter(torch.zeros(members, hidden, *layout.mask.shape))
        self.out_bias_MGF = nn.Parameter(torch.zeros(members, *layout.mask.shape))

    def forward(self, codes_MGBZ: Sequence[Tensor]) -> Tensor:
        """Return the reconstruction `[M, G, B, F]` from the codes of all levels."""
        hidden_MBH = self.hidden_bias_MH[:, None]
        for codes, weights_MGZH in zip(codes_MGBZ, self.hidden_MGZH, strict=True):
            codes_MBI = codes.transpose(1, 2).flatten(2)
            hidden_MBH = hidden_MBH + codes_MBI @ weights_MGZH.flatten(1, 2)
        output_MBGF = (torch.relu(hidden_MBH) @ self.out_MHGF.flatten(2)).unflatten(-1, self.layout.mask.shape)
        return (output_MBGF + self.out_bias_MGF[:, None]).transpose(1, 2)

    @torch.no_grad()
    def start(self, member: int, generator: Generator) -> None:
        """Draw a member's weights (He et al. 2015), cell by cell in use, so that padding does not change them."""
        fan_in = int(self.dims_MGL[member].sum())
        for weights_MGZH, dims_G in zip(self.hidden_MGZH, self.dims_MGL[member].T.tolist(), strict=True):
            for group, dims in enumerate(dims_G):
                drawn_ZH = torch.randn(dims, weights_MGZH.shape[-1], generator=generator) * (2 / fan_in) ** 0.5
                weights_MGZH[member, group, :dims] = drawn_ZH.to(weights_MGZH)
        hidden = self.out_MHGF.shape[1]
        for group, features in enumerate(self.layout.sizes):
            drawn_HF = torch.randn(hidden, features, generator=generator) * (1 / hidden) ** 0.5
            self.out_MHGF[member, :, group, :features] = drawn_HF.to(self.out_MHGF)
