"""Adam over members: one flat update for all parameters, with a learning rate of each member's own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class MemberAdam:
    """Adam (Kingma & Ba 2015) on parameters whose first axis is the member.

    `torch.optim.Adam` has one learning rate per tensor, but here members share tensors. All parameters and gradients
    are views of two flat buffers, so that a step is a handful of operations however many parameters there are.
    The model must stay on its device afterwards.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rates_M: Tensor, betas: tuple[float, float] = (0.9, 0.999)):
        tensors = list(parameters)
        self.betas, self.epsilon, self.steps = betas, 1e-8, 0
        self.weights = torch.cat([tensor.detach().flatten() for tensor in tensors])
        self.gradients = torch.zeros_like(self.weights)
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.shapes = [tensor.shape for tensor in tensors]
        self._member = torch.cat([_member_of_each_cell(tensor) for tensor in tensors])
        self.rates = self._of_each_cell(rates_M.to(self.weights))
        offset = 0
        for tensor in tensors:
            cells = slice(offset, offset + tensor.numel())
            tensor.data = self.weights[cells].view(tensor.shape)
            tensor.grad = self.gradients[cells].view(tensor.shape)
            offset += tensor.numel()

    def zero_grad(self) -> None:
        """Clear the gradients in place; parameters keep their views."""
        self.gradients.zero_()

    def moments(self) -> dict[str, Tensor]:
        """Return views of both moments of every parameter, members first."""
        sizes = [shape.numel() for shape in self.shapes]
        return {
            f"{name}/{place}": cells.view(shape)
            for name, flat in (("first", self.first), ("second", self.second))
            for place, (cells, shape) in enumerate(zip(flat.split(sizes), self.shapes, strict=True))
        }

    @torch.no_grad()
    def step(self, alive_M: Tensor) -> None:
        """Update the members that are `alive_M`; the others keep their weights whatever their gradients hold."""
        self.steps += 1
        beta1, beta2 = self.betas
        alive = self._of_each_cell(alive_M)
        gradients = torch.where(alive, self.gradients, 0.0)
        self.first.lerp_(gradients, 1 - beta1)
        self.second.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        scale = (1 - beta2**self.steps) ** 0.5
        denominator = self.second.sqrt().div_(scale).add_(self.epsilon)
        rates = torch.where(alive, self.rates, 0.0) / (1 - beta1**self.steps)
        self.weights.sub_(self.first.div(denominator).mul_(rates))

    def _of_each_cell(self, values_M: Tensor) -> Tensor:
        """Return the value of each cell's member; of a single member it goes for all, and no cell is looked up."""
        return values_M if len(values_M) == 1 else values_M[self._member]


def _member_of_each_cell(tensor: Tensor) -> Tensor:
    members = torch.arange(tensor.shape[0], device=tensor.device)
    return members.repeat_interleave(tensor[0].numel())
