"""MemberAdam is Adam, member by member."""

from __future__ import annotations

import torch
from torch import nn

from spinlock_dist.training.optimizer import MemberAdam


def parameters(seed: int, members: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(members, *shape, generator=generator)) for shape in ((3, 4), (5,))]


def loss(tensors: list[nn.Parameter]) -> torch.Tensor:
    return sum((tensor**4).sum() + tensor.sin().sum() for tensor in tensors)  # type: ignore[return-value]


def test_equals_torch_adam_with_each_members_own_rate() -> None:
    ours, rates = parameters(0, 3), [1e-3, 1e-2, 1e-1]
    theirs = [[nn.Parameter(tensor[m].detach().clone()) for tensor in ours] for m in range(3)]
    adams = [torch.optim.Adam(tensors, lr=rate) for tensors, rate in zip(theirs, rates, strict=True)]
    adam, alive = MemberAdam(ours, torch.tensor(rates)), torch.ones(3, dtype=torch.bool)
    for _ in range(25):
        adam.zero_grad()
        loss(ours).backward()
        adam.step(alive)
        for reference, tensors in zip(adams, theirs, strict=True):
            reference.zero_grad()
            loss(tensors).backward()
            reference.step()
    for index, tensor in enumerate(ours):
        for member in range(3):
            torch.testing.assert_close(tensor[member], theirs[member][index], rtol=1e-5, atol=1e-6)


def test_a_member_that_is_not_alive_keeps_its_weights_whatever_its_gradient() -> None:
    ours = parameters(1, 2)
    adam = MemberAdam(ours, torch.tensor([0.1, 0.1]))
    before = [tensor.detach().clone() for tensor in ours]
    for alive in (torch.tensor([True, True]), torch.tensor([True, False])):
        adam.zero_grad()
        loss(ours).backward()
        if not alive[1]:
            frozen = [tensor[1].detach().clone() for tensor in ours]
            ours[0].grad[1] = torch.nan
        adam.step(alive)
    assert all(torch.equal(tensor[1], kept) for tensor, kept in zip(ours, frozen, strict=True))
    assert all(torch.isfinite(tensor).all() for tensor in ours)
    assert not torch.equal(ours[0][0], before[0][0])
