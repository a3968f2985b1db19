"""What every quantizer of a level gives and takes, batched over members and groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from torch import Generator, Tensor, nn
from torch.autograd import Function

from spinlock_dist.config import QuantizerConfig


class Choice(NamedTuple):
    """Inputs of a codebook, and the places of the codes it chose."""

    inputs_MGBZ: Tensor
    place_MGB: Tensor


@dataclass(frozen=True)
class Quantized:
    """`latent_MGBZ` as it was quantized, the `codes_MGBZ` it became, and their tokens.

    `straight_through_MGBZ` has the value of the codes and the gradient of the latent (Bengio et al. 2013).

    `choices` are those of each codebook in use: its inputs, which are the latent less the codes of the codebooks before
    it, and where each chosen code lies among all codes of all codebooks.
    """

    latent_MGBZ: Tensor
    codes_MGBZ: Tensor
    straight_through_MGBZ: Tensor
    tokens_MGBS: Tensor
    choices: list[Choice]


class _StraightThrough(Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, codes: Tensor) -> Tensor:
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def straight_through(latent: Tensor, codes: Tensor) -> Tensor:
    """The codes, with the gradient of the latent."""
    return cast(Tensor, _StraightThrough.apply(latent, codes))


class Quantizer(nn.Module, ABC):
    """`dims_MG` latent dimensions and S codebooks of `codes_MGS` codes are in use; the rest is padding: its dimensions
    stay zero, its codes are never chosen. What moves by itself is a buffer, not a parameter."""

    def __init__(self, dims_MG: Tensor, codes_MGS: Tensor, config: QuantizerConfig):
        super().__init__()
        self.config = config
        self.dims_MG, self.codes_MGS = dims_MG.cpu(), codes_MGS.cpu()

    @abstractmethod
    def forward(self, latent_MGBZ: Tensor) -> Quantized:
        """Quantize every latent."""

    @abstractmethod
    def lookup(self, tokens_MGBS: Tensor) -> Tensor:
        """The codes `[M, G, B, Z]` that tokens stand for."""

    @abstractmethod
    def draws(self, member: int, group: int) -> int:
        """How many random numbers `start_from_data` takes for a member's group."""

    @abstractmethod
    def start_from_data(
        self, latent_MGNZ: Tensor, draws_MG: Sequence[Sequence[np.ndarray]], batch_size: int, compiled: bool
    ) -> Tensor:
        """Fit every member's groups to latents of training rows; return them quantized, `[M, G, N, Z]`.

        `draws_MG` are the random numbers of each, uniform in [0, 1). `compiled`: by loops for the CPU, where there are
        any; otherwise in a batch, without waiting for the device.
        """

    @abstractmethod
    def start_from_noise(self, member: int, group: int, generator: Generator) -> None:
        """Start a member's group without data."""

    @abstractmethod
    def update(self, quantized: Quantized, alive_M: Tensor, expire: bool) -> None:
        """Learn from what was just quantized, without a gradient; members that are not `alive_M` stay as they are."""
