"""How each kind of operator moves its state one recorded step on.

A state is `[L, B, S, H, W]`: L lanes (realizations), B operators, S fields of which the first three are observed.
Time is counted in recorded steps, length in cells; the grid is periodic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from spinlock_dist.simulator.fields import laplacian
from spinlock_dist.simulator.initial_conditions import CHANNELS
from spinlock_dist.simulator.parameters import KINDS, POLICIES, Parameters

CHANNEL_SCALES = torch.tensor([1.0, 0.75, 0.5])[:, None, None]
"""Transport coefficients of the three channels of a linear operator, so that channels move apart."""
GRAY_SCOTT_SUBSTEPS = 4
FITZHUGH_SUBSTEPS = 2
CLIP = 10.0
"""Where the clipped convolution saturates: growth is exponential below."""


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """`step` advances a state, without noise; `start` makes the state `[B, S, H, W]` of initial fields `[B, C, H, W]`.

    `noise_scale`, broadcastable to `[B, C, H, W]`, is the field's unit in which the parameter `noise` is meant.
    """

    step: Callable[[Tensor], Tensor]
    noise_scale: Tensor
    start: Callable[[Tensor], Tensor] = lambda fields: fields


Maker = Callable[[Parameters, int, Generator], Dynamics]


# ---------------------------------------------------------------- random convolutional operators


def convolution(
    parameters: Parameters, grid: int, generator: Generator, *, activation: Callable[[Tensor], Tensor]
) -> Dynamics:
    """u' = keep * u + push * activation(kernel * u + bias) with a random 3 x 3 kernel over three channels.

    Policies: residual (keep 1, push rate), convex (1 - rate, rate), autoregressive (0, 1).
    """
    kernel = _random_kernel(parameters, generator)
    policy = torch.tensor(parameters.codes("policy"))[:, None, None, None]
    rate = parameters["rate"]
    residual, convex = policy == POLICIES.index("residual"), policy == POLICIES.index("convex")
    keep = torch.where(residual, 1.0, torch.where(convex, 1 - rate, 0.0))
    push = torch.where(residual | convex, rate, 1.0)

    def step(state: Tensor) -> Tensor:
        response = (kernel @ _neighbourhoods(state)).view_as(state)
        response += parameters["bias"]
        return activation(response).mul_(push).add_(keep * state)

    return Dynamics(step=step, noise_scale=parameters["amplitude"])


def _neighbourhoods(state: Tensor) -> Tensor:
    """`[L, B, C * 9, H * W]`: the 3 x 3 cells about every cell (half the time of a grouped `conv2d` on CPU)."""
    padded = F.pad(state.flatten(0, 1), (1, 1, 1, 1), mode="circular")
    windows = padded.unfold(-2, 3, 1).unfold(-2, 3, 1)  # [L * B, C, H, W, 3, 3]
    return windows.permute(0, 1, 4, 5, 2, 3).reshape(*state.shape[:2], -1, state.shape[-2] * state.shape[-1])


def _random_kernel(parameters: Parameters, generator: Generator) -> Tensor:
    """`[B, C, C * 9]`; the kernel of each output channel has L2 norm `gain`."""
    kernel = torch.randn(len(parameters), CHANNELS, CHANNELS, 3, 3, generator=generator)
    own = torch.eye(CHANNELS)[:, :, None, None]
    kernel = kernel * (own + (1 - own) * parameters["coupling"][..., None])
    norm = kernel.square().sum((2, 3, 4), keepdim=True).sqrt()
    return (kernel / norm * parameters["gain"][..., None]).flatten(2)


# ---------------------------------------------------------------- linear transport, exact in time


def propagator(diffusivity: Tensor, velocity: Tensor, grid: int) -> Tensor:
    """The matrix `[..., grid, grid]` that advances u_t = D u_xx - v u_x by one step on a periodic line.

    Row i of the circulant matrix weighs the old cells for the new cell i; exact for band-limited fields.
    """
    k = 2 * torch.pi * torch.fft.rfftfreq(grid)
    response = torch.exp(-diffusivity[..., None] * k**2) * torch.exp(-1j * velocity[..., None] * k)
    impulse = torch.fft.irfft(response, n=grid)
    lag = (torch.arange(grid)[:, None] - torch.arange(grid)) % grid
    return impulse[..., lag]


def _transport(parameters: Parameters, grid: int, diffusivities: list[Tensor], velocities: list[Tensor]) -> Dynamics:
    """Advance by the product of a propagator along the rows' axis (first) and one across it (second)."""
    along, across = (
        propagator((d * CHANNEL_SCALES)[..., 0, 0], (v * CHANNEL_SCALES)[..., 0, 0], grid)
        for d, v in zip(diffusivities, velocities, strict=True)
    )
    return Dynamics(step=lambda state: along @ state @ across.transpose(-2, -1), noise_scale=parameters["amplitude"])


def diffusion(parameters: Parameters, grid: int, generator: Generator) -> Dynamics:
    """Anisotropic diffusion; each channel conserves its mean."""
    tilt = 0.5 * parameters["angle"].cos()
    still = torch.zeros_like(tilt)
    diffusivities = [parameters["diffusivity"] * (1 + tilt), parameters["diffusivity"] * (1 - tilt)]
    return _transport(parameters, grid, diffusivities, [still, still])


def advection(parameters: Parameters, grid: int, generator: Generator) -> Dynamics:
    """Drift at constant velocity with a trace of diffusion (1 % of `diffusivity`)."""
    spread = 0.01 * parameters["diffusivity"]
    velocities = [parameters["speed"] * parameters["angle"].sin(), parameters["speed"] * parameters["angle"].cos()]
    return _transport(parameters, grid, [spread, spread], velocities)


# ---------------------------------------------------------------- nonlinear and second-order equations


def gray_scott(parameters: Parameters, grid: int, generator: Generator) -> Dynamics:
    """Gray-Scott reaction U + 2V -> 3V (Pearson 1993) and, as third channel, its decaying product.

    Classical coefficients Du = 0.16, Dv = 0.08, scaled by `diffusivity`, which explicit steps of 1 keep stable.
    """
    feed, kill = parameters["feed"], parameters["kill"]
    spread = torch.tensor([0.16, 0.08, 0.04])[:, None, None] * (0.5 + parameters["diffusivity"])

    def step(state: Tensor) -> Tensor:
        for _ in range(GRAY_SCOTT_SUBSTEPS):
            u, v, product = state.clamp(0, 1.5).unbind(2)
            reaction = u * v * v
            rates = [
                feed[:, 0] * (1 - u) - reaction,
                reaction - (feed + kill)[:, 0] * v,
                reaction - parameters["damping"][:, 0] * product,
            ]
            state = state + spread * laplacian(state) + torch.stack(rates, dim=2)
        return state

    def start(fields: Tensor) -> Tensor:
        seeded = torch.sigmoid(2 * fields)
        return torch.cat([1 - 0.5 * seeded[:, :1], 0.5 * seeded[:, 1:2], 0.1 * seeded[:, 2:]], dim=1)

    return Dynamics(step=step, start=start, noise_scale=torch.tensor(0.1))


def fitzhugh_nagumo(parameters: Parameters, grid: int, generator: Generator) -> Dynamics:
    """Excitable medium (FitzHugh 1961, Nagumo 1962) with a slow current as third channel.

    u_t = u - u**3 / 3 - v - coupling * w + D lap(u), v_t = e (u + 0.7 + bias - 0.8 v), w_t = e / 10 (u - w).
    """
    epsilon, bias, coupling, spread = (parameters[n][:, 0] for n in ("rate", "bias", "coupling", "diffusivity"))
    dt = 0.25

    def step(state: Tensor) -> Tensor:
        for _ in range(FITZHUGH_SUBSTEPS):
            u, v, w = state.unbind(2)
            rates = [
                u - u**3 / 3 - v - coupling * w + spread * laplacian(u),
                epsilon * (u + 0.7 + bias - 0.8 * v),
                0.1 * epsilon * (u - w),
            ]
            state = state + dt * torch.stack(rates, dim=2)
        return state

    return Dynamics(step=step, start=lambda fields: fields.clamp(-2.5, 2.5), noise_scale=torch.tensor(0.5))


def wave(parameters: Parameters, grid: int, generator: Generator) -> Dynamics:
    """Damped wave equation of three coupled displacements, by symplectic Euler; velocities are hidden and start at 0.

    Wave speed is 0.3 * `speed` <= 0.6 cells / step, below the limit 1 / sqrt(2) of the scheme.
    """
    squared = (0.3 * parameters["speed"]) ** 2
    pull = 0.02 * parameters["coupling"]

    def step(state: Tensor) -> Tensor:
        height, velocity = state.split(CHANNELS, dim=2)
        force = squared * laplacian(height) + pull * (height.roll(1, 2) - height)
        velocity = (1 - parameters["damping"]) * velocity + force
        return torch.cat([height + velocity, velocity], dim=2)

    return Dynamics(
        step=step,
        start=lambda fields: torch.cat([fields, torch.zeros_like(fields)], dim=1),
        noise_scale=parameters["amplitude"],
    )


DYNAMICS: dict[str, Maker] = {
    "convolution_tanh": partial(convolution, activation=torch.tanh),
    "convolution_sine": partial(convolution, activation=torch.sin),
    "convolution_clipped": partial(convolution, activation=lambda x: x.clamp(-CLIP, CLIP)),
    "diffusion": diffusion,
    "advection": advection,
    "gray_scott": gray_scott,
    "fitzhugh_nagumo": fitzhugh_nagumo,
    "wave": wave,
}
assert tuple(DYNAMICS) == KINDS
