"""What this project needs of torch and torch does not offer publicly. Checked on torch 2.13.0."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fused_adam(
    buffers: Sequence[list[Tensor]],
    steps: Tensor,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    skip: Tensor,
) -> None:
    """One step of Adam's fused kernel on lists of weights, gradients, first and second moments, in place.

    `steps` counts from 1. Where `skip` is 1 nothing changes, whatever the gradients hold: the kernel's own way to leave
    everything as it is without asking the host. `torch.optim.Adam(fused=True)` has one rate for each tensor, where here
    members share tensors and each has its own.
    """
    weights, gradients, first, second = buffers
    torch._fused_adam_(
        weights,
        gradients,
        first,
        second,
        [],
        [steps] * len(weights),
        lr=rate,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=0.0,
        eps=epsilon,
        amsgrad=False,
        maximize=False,
        found_inf=skip,
    )
