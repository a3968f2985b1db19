"""Adam over members: one flat update for all parameters, with a learning rate of each member's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from spinlock_dist.training.torch_internals import fused_adam


class MemberAdam:
    """Adam (Kingma & Ba 2015) on parameters whose first axis is the member.

    `torch.optim.Adam` has one learning rate per tensor, but here members share tensors: its fused kernel, one pass over
    everything, is called for the slices of each member. All parameters and gradients are views of two flat buffers.
    The model must stay on its device afterwards.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rates_M: Tensor, betas: tuple[float, float] = (0.9, 0.999)):
        tensors = list(parameters)
        self.betas, self.epsilon, self.steps, self.rates = betas, 1e-8, 0, rates_M.tolist()
        self.weights = torch.cat([tensor.detach().flatten() for tensor in tensors])
        self.gradients = torch.zeros_like(self.weights)
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self._shapes = shapes = [tensor.shape for tensor in tensors]
        for tensor, weights, gradients in zip(
            tensors, _views(self.weights, shapes), _views(self.gradients, shapes), strict=True
        ):
            tensor.data, tensor.grad = weights, gradients
        flat = (self.weights, self.gradients, self.first, self.second)
        if len(self.rates) == 1:
            self._of_members = [[[buffer] for buffer in flat]]
        else:
            views = [_views(buffer, shapes) for buffer in flat]
            self._of_members = [[[view[m] for view in each] for each in views] for m in range(len(self.rates))]

    def zero_grad(self) -> None:
        """Clear the gradients in place; parameters keep their views."""
        self.gradients.zero_()

    def forget_direction(self) -> None:
        """Clear the first moments: what has no gradient from now on stays where it is."""
        self.first.zero_()

    def moments(self) -> dict[str, Tensor]:
        """Views of both moments of every parameter, members first."""
        return {
            f"{name}/{place}": view
            for name, flat in (("first", self.first), ("second", self.second))
            for place, view in enumerate(_views(flat, self._shapes))
        }

    def finite_M(self) -> Tensor:
        """Whether all gradients of a member are finite `[M]`, without asking the host.

        A sum is finite only if its terms are: an infinite one makes it infinite or, against another, not a number.
        """
        members = len(self.rates)
        if members == 1:
            return torch.isfinite(self.gradients.sum()).reshape(1)
        views = _views(self.gradients, self._shapes)
        return torch.isfinite(torch.stack([view.reshape(members, -1).sum(dim=1) for view in views]).sum(dim=0))

    @torch.no_grad()
    def step(self, alive_M: Tensor) -> None:
        """Update the members that are `alive_M`; the others keep their weights whatever their gradients hold."""
        self.steps += 1
        steps = torch.full((), float(self.steps), device=self.weights.device)
        dead_M = (~alive_M).to(self.weights).unbind()
        for rate, dead, buffers in zip(self.rates, dead_M, self._of_members, strict=True):
            fused_adam(buffers, steps, rate, self.betas, self.epsilon, skip=dead)


def _views(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
