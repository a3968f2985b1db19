"""One level of the hierarchy: encoder, quantizer and decoder of every category, batched over members and groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function

from spinlock_dist.config import ModelConfig, QuantizerConfig
from spinlock_dist.model.quantizers import Quantized, build_quantizer


def _add(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add a product in place. On a CPU, adding while multiplying is slow for widths that do not fill its registers."""
    if total.shape[-1] % 16:
        return total.add_(torch.bmm(left, right))
    return total.baddbmm_(left, right)


class _GroupMLP(Function):
    """What `GroupMLP` computes. Products add up in place, which autograd would not do: half the passes and calls."""

    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor | None,
        linear: Tensor,
        bias: Tensor,
        hidden_bias: Tensor,
        out: Tensor,
        *rest: Tensor,
    ) -> Tensor:
        shape = rest[-1].shape
        linear, bias, hidden_bias, out, *rest_ = (
            tensor.flatten(0, 1) for tensor in (linear, bias, hidden_bias, out, *rest)
        )
        weights, inputs = rest_[: len(rest_) // 2], rest_[len(rest_) // 2 :]
        hidden = torch.bmm(inputs[0], weights[0]).add_(hidden_bias[:, None])
        for context, weight in zip(inputs[1:], weights[1:], strict=True):
            hidden.baddbmm_(context, weight)
        hidden.relu_()
        output = _add(torch.bmm(inputs[0], linear), hidden, out).add_(bias[:, None])
        if base is not None:
            output += base.flatten(0, 1)
        ctx.save_for_backward(linear, out, hidden, *weights, *inputs)
        return output.unflatten(0, shape[:2])

    @staticmethod
    def backward(ctx: Any, gradient_MGBO: Tensor) -> tuple[Tensor | None, ...]:
        linear, out, hidden, *rest = ctx.saved_tensors
        weights, inputs = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        groups = gradient_MGBO.shape[:2]
        gradient = gradient_MGBO.flatten(0, 1)
        to_hidden = torch.ops.aten.threshold_backward(torch.bmm(gradient, out.mT), hidden, 0)
        to_weights = [
            torch.bmm(inputs[0].mT, gradient),
            gradient.sum(dim=1),
            to_hidden.sum(dim=1),
            torch.bmm(hidden.mT, gradient),
            *(torch.bmm(each.mT, to_hidden) for each in inputs),
        ]
        needed = ctx.needs_input_grad[-len(inputs) :]
        to_inputs = [
            torch.bmm(to_hidden, weight.mT) if need else None for weight, need in zip(weights, needed, strict=True)
        ]
        if to_inputs[0] is not None:
            _add(to_inputs[0], gradient, linear.mT)
        found = [None if each is None else each.unflatten(0, groups) for each in (*to_weights, *to_inputs)]
        return gradient_MGBO if ctx.needs_input_grad[0] else None, *found


class GroupMLP(nn.Module):
    """A linear map plus a one-hidden-layer correction, one for every member and group: `[M, G, B, I] -> [M, G, B, O]`.

    The hidden layer also takes `contexts`, further inputs such as the codes of coarser levels. Cells outside a group's
    own sizes start at zero and, having no gradient, stay there (`model/layout.py` says why).
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

    def forward(self, x_MGBI: Tensor, contexts: Sequence[Tensor], base_MGBO: Tensor | None = None) -> Tensor:
        """`base + x @ linear + bias + relu([x, contexts] @ hidden) @ out`."""
        weights = (self.linear_MGIO, self.bias_MGO, self.hidden_bias_MGH, self.out_MGHO, *self.hidden_MGIH)
        return cast(Tensor, _GroupMLP.apply(base_MGBO, *weights, x_MGBI, *contexts))


class Level(nn.Module):
    """Encode, quantize and decode all groups at one level.

    `coarser` are the widths of the coarser levels' codes, which the decoder always sees and the encoder sees with
    residual levels: what a token means may depend on the coarser ones (as in QINCo, Huijben et al. 2024).
    """

    def __init__(
        self,
        features: int,
        dims_MG: Tensor,
        codes_MGS: Tensor,
        coarser: Sequence[int],
        config: ModelConfig,
        quantizer: QuantizerConfig,
    ):
        super().__init__()
        members, groups = dims_MG.shape
        width = int(dims_MG.max())
        self.encoder_context = config.levels == "residual"
        context = coarser if self.encoder_context else ()
        self.encoder = GroupMLP(members, groups, features, context, config.hidden, width)
        self.quantizer = build_quantizer(dims_MG, codes_MGS, quantizer)
        self.decoder = GroupMLP(members, groups, width, coarser, config.hidden, features)

    def forward(self, x_MGBF: Tensor, coarser: Sequence[Tensor]) -> Quantized:
        """Encode and quantize what the coarser levels left, or with parallel levels the features themselves."""
        quantized = self.quantizer(self.encoder(x_MGBF, coarser if self.encoder_context else ()))
        return cast(Quantized, quantized)
