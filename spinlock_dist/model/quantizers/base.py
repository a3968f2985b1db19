"""What every quantizer of a level gives and takes, batched over members and groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from spinlock_dist.config import QuantizerConfig


@dataclass(frozen=True)
class Quantized:
    """`latent_MGBZ` as it was quantized, the `codes_MGBZ` it became, their tokens, and `straight_MGBZ`, whose value is
    the codes and whose gradient is the latent's (straight-through, Bengio et al. 2013).

    `inputs_MGSBZ` is what each of the S codebooks saw: the latent, less what the codebooks before it gave.
    """

    latent_MGBZ: Tensor
    codes_MGBZ: Tensor
    straight_MGBZ: Tensor
    tokens_MGBS: Tensor
    inputs_MGSBZ: Tensor


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
        """Return the codes `[M, G, B, Z]` that tokens stand for."""

    @abstractmethod
    def start_from_data(self, member: int, latent_GNZ: Tensor, generator: Generator, batch_size: int) -> Tensor:
        """Fit a member to latents of training rows; return them quantized, `[G, N, Z]`."""

    @abstractmethod
    def start_from_noise(self, member: int, generator: Generator) -> None:
        """Start a member without data."""

    @abstractmethod
    def update(self, quantized: Quantized, alive_M: Tensor, expire: bool) -> None:
        """Learn from what was just quantized, without a gradient; members that are not `alive_M` stay as they are."""
