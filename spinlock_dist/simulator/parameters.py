"""Which operators are simulated: a scrambled Sobol sequence over kinds and physical parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from spinlock_dist.seeding import derive_seed

KINDS = (
    "convolution_tanh",
    "convolution_sine",
    "convolution_clipped",
    "diffusion",
    "advection",
    "gray_scott",
    "fitzhugh_nagumo",
    "wave",
)
INITIAL_CONDITIONS = ("random_field", "multiscale", "white_noise", "blobs", "plane_waves", "stripes", "spikes")
POLICIES = ("residual", "convex", "autoregressive")
NOISE_REGIMES = {"low": 1e-3, "medium": 1e-2, "high": float("inf")}
"""Upper limit of the parameter `noise` in each regime."""


@dataclass(frozen=True)
class Dimension:
    """A parameter in `[low, high)`. `scale` is `linear`, `log`, or `choice` (an integer, uniformly)."""

    name: str
    low: float
    high: float
    scale: str = "linear"

    def spread(self, unit_B: Tensor) -> Tensor:
        """Map `unit_B` in [0, 1) onto the range."""
        if self.scale == "log":
            return self.low * (self.high / self.low) ** unit_B
        value_B = self.low + (self.high - self.low) * unit_B
        return value_B.floor() if self.scale == "choice" else value_B


DIMENSIONS = (
    Dimension("kind", 0, len(KINDS), "choice"),
    Dimension("initial_condition", 0, len(INITIAL_CONDITIONS), "choice"),
    Dimension("policy", 0, len(POLICIES), "choice"),  # convolutional kinds
    Dimension("amplitude", 0.3, 3.0, "log"),  # standard deviation of the initial field
    Dimension("offset", -1.0, 1.0),  # mean of the initial field / amplitude
    Dimension("slope", 1.0, 4.0),  # power spectrum of random fields falls as wavenumber ** -slope
    Dimension("length", 0.05, 0.25, "log"),  # size of blobs and waves / side of the grid
    Dimension("noise", 1e-4, 5e-2, "log"),  # standard deviation of the noise per step / scale of the field
    Dimension("coupling", 0.0, 1.0),  # strength of the cross-channel terms
    Dimension("gain", 0.5, 4.0, "log"),  # L2 norm of the kernel of convolutional kinds
    Dimension("rate", 0.05, 0.5, "log"),  # step size of residual and convex updates and of excitation recovery
    Dimension("bias", -0.5, 0.5),
    Dimension("diffusivity", 0.01, 0.5, "log"),  # cells ** 2 / step
    Dimension("speed", 0.05, 2.0, "log"),  # cells / step
    Dimension("angle", 0.0, 2 * torch.pi),
    Dimension("damping", 1e-3, 0.1, "log"),  # 1 / step
    Dimension("feed", 0.02, 0.06),  # Gray-Scott
    Dimension("kill", 0.05, 0.065),  # Gray-Scott
)
NAMES = tuple(dimension.name for dimension in DIMENSIONS)


@dataclass(frozen=True)
class Parameters:
    """Parameters of B operators: `values` is `[B, P]` float32 with the columns of `NAMES`."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> Tensor:
        """The parameter `name` as `[B, 1, 1, 1]`, to broadcast over `[..., B, C, H, W]`."""
        return self.values[:, NAMES.index(name), None, None, None]

    def codes(self, name: str) -> list[int]:
        """The choice `name` of every operator as an index."""
        return self.values[:, NAMES.index(name)].long().tolist()

    def rows(self, index: list[int]) -> Parameters:
        """The parameters of the given rows."""
        return Parameters(self.values[index])

    def labels(self, name: str, choices: tuple[str, ...]) -> list[str]:
        """The choice `name` of every operator in words."""
        return [choices[code] for code in self.codes(name)]

    def noise_regimes(self) -> list[str]:
        """The noise regime of every operator."""
        levels = self["noise"].flatten().tolist()
        return [next(name for name, limit in NOISE_REGIMES.items() if level < limit) for level in levels]


def draw_parameters(seed: int, start: int, count: int) -> Parameters:
    """The parameters of operators `start .. start + count - 1`, whoever asks for however many.

    Sequence: Sobol with Owen-type scrambling (Joe & Kuo 2008 directions), as in `torch.quasirandom`.
    """
    engine = SobolEngine(len(DIMENSIONS), scramble=True, seed=derive_seed(seed, "operators", "parameters"))
    if start:
        engine.fast_forward(start)
    unit_BP = engine.draw(count, dtype=torch.float64).clamp(0, 1 - 1e-12)
    columns = [dimension.spread(unit_BP[:, i]) for i, dimension in enumerate(DIMENSIONS)]
    return Parameters(torch.stack(columns, dim=1).float())
