"""One level of the hierarchy: encoder, quantizer and decoder of every category, batched over members and groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.quantizers import Quantized, build_quantizer


class GroupMLP(nn.Module):
    """A linear map plus a one-hidden-layer correction, one for every member and group: `[M, G, B, I] -> [M, G, B, O]`.

    The hidden layer also sees `contexts`, further inputs such as the codes of coarser levels. Cells outside a group's
    own sizes start at zero and, having no gradient, stay there: padding needs no masks.
    """

    def __init__(self, members: int, groups: int, inputs: int, contexts: Sequence[int], hidden: int, outputs: int):
        super().__init__()
        self.linear_MGIO = nn.Parameter(torch.zeros(members, groups, inputs, outputs))
        self.bias_MGO = nn.Parameter(torch.zeros(members, groups, outputs))
        self.hidden_MGIH = nn.ParameterList(
            nn.Parameter(torch.zeros(members, groups, width, hidden)) for width in (inputs, *contexts)
        )
        self.hidden_bias_MGH = nn.Parameter(torch.zeros(members, groups, hidden))
        self.out_MGHO = nn.Parameter(torch.zeros(members, groups, hidden, outputs))

    def forward(self, x_MGBI: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        """Return `x @ linear + bias + relu([x, contexts] @ hidden) @ out`."""
        # Members and groups as one axis, sums inside the products: fewer passes over what is as large as the batch.
        hidden = self.hidden_bias_MGH.flatten(0, 1)[:, None]
        for seen_MGBI, weights_MGIH in zip((x_MGBI, *contexts), self.hidden_MGIH, strict=True):
            hidden = torch.baddbmm(hidden, seen_MGBI.flatten(0, 1), weights_MGIH.flatten(0, 1))
        bias = self.bias_MGO.flatten(0, 1)[:, None]
        linear = torch.baddbmm(bias, x_MGBI.flatten(0, 1), self.linear_MGIO.flatten(0, 1))
        output = torch.baddbmm(linear, torch.relu(hidden), self.out_MGHO.flatten(0, 1))
        return output.unflatten(0, x_MGBI.shape[:2])

    @torch.no_grad()
    def start_hidden(self, member: int, group: int, sizes: Sequence[int], generator: Generator) -> None:
        """Draw the hidden layer of one group (He et al. 2015). `sizes`: cells in use of the input and each context."""
        for weights_MGIH, size in zip(self.hidden_MGIH, sizes, strict=True):
            drawn_IH = torch.randn(size, weights_MGIH.shape[-1], generator=generator) * (2 / sum(sizes)) ** 0.5
            weights_MGIH[member, group, :size] = drawn_IH.to(weights_MGIH)

    @torch.no_grad()
    def start_output(self, member: int, group: int, inputs: int, outputs: int, generator: Generator) -> None:
        """Draw the linear map and the output layer of one group, for a start that knows no data."""
        for weights, fan_in in ((self.linear_MGIO, inputs), (self.out_MGHO, self.out_MGHO.shape[2])):
            drawn = torch.randn(fan_in, outputs, generator=generator) * (0.5 / fan_in) ** 0.5
            weights[member, group, :fan_in, :outputs] = drawn.to(weights)


class Level(nn.Module):
    """Encode, quantize and decode all groups at one level.

    `coarser` are the widths of the coarser levels' codes, which the decoder always sees and the encoder sees if
    `encoder_context`: what a token means may depend on the coarser ones (as in QINCo, Huijben et al. 2024).
    """

    def __init__(
        self,
        features: int,
        dims_MG: Tensor,
        codes_MGS: Tensor,
        coarser: Sequence[int],
        encoder_context: bool,
        hidden: int,
        quantizer: QuantizerConfig,
    ):
        super().__init__()
        members, groups = dims_MG.shape
        width = int(dims_MG.max())
        self.encoder_context = encoder_context
        self.encoder = GroupMLP(members, groups, features, coarser if encoder_context else (), hidden, width)
        self.quantizer = build_quantizer(dims_MG, codes_MGS, quantizer)
        self.decoder = GroupMLP(members, groups, width, coarser, hidden, features)

    def encode(self, x_MGBF: Tensor, coarser: Sequence[Tensor]) -> Tensor:
        """Return the latent `[M, G, B, Z]` of what this level is to describe."""
        return self.encoder(x_MGBF, coarser if self.encoder_context else ())

    def forward(self, x_MGBF: Tensor, coarser: Sequence[Tensor]) -> tuple[Quantized, Tensor]:
        """Return the quantized latent and this level's contribution to the reconstruction `[M, G, B, F]`."""
        quantized = self.quantizer(self.encode(x_MGBF, coarser))
        return quantized, self.decoder(quantized.straight_MGBZ, coarser)
