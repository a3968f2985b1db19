"""Run a batch of operators and extract their features."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from spinlock_dist.simulator.dynamics import DYNAMICS
from spinlock_dist.simulator.initial_conditions import CHANNELS, draw_initial_fields
from spinlock_dist.simulator.parameters import Parameters
from spinlock_dist.simulator.recording import Recording

TWIN_STEPS = 16
"""Steps for which a perturbed twin is carried along."""
PERTURBATION = 1e-2
"""Size of the twin's perturbation / standard deviation of the initial field. Far above float32 rounding."""


def simulate(
    kind: str, parameters: Parameters, *, grid: int, steps: int, realizations: int, generator: Generator
) -> Recording:
    """The recording of operators of one kind; realizations differ only in their noise.

    A twin of the first realization starts slightly displaced and meets the same noise.
    """
    dynamics = DYNAMICS[kind](parameters, grid, generator)
    start = dynamics.start(draw_initial_fields(parameters, grid, generator))
    state = torch.cat([start.expand(realizations, *start.shape), _displaced(start, generator)[None]])
    noise_level = parameters["noise"] * dynamics.noise_scale
    frames = torch.empty(steps, realizations, *start[:, :CHANNELS].shape)
    distances = [_distance(state)]
    for step in range(steps):
        if step == TWIN_STEPS:
            state = state[:realizations]
        state = dynamics.step(state)
        _add_noise(state, noise_level, generator, frames[step])
        if step < TWIN_STEPS:
            distances.append(_distance(state))
    divergence = torch.stack(distances[1:]) / distances[0]
    return Recording(initial=start[:, :CHANNELS].contiguous(), frames=frames, divergence=divergence)


def _add_noise(state: Tensor, noise_level: Tensor, generator: Generator, frame: Tensor) -> None:
    """Add noise to the observed channels of `state` and copy them into `frame` `[R, B, C, H, W]`."""
    noise = torch.randn(frame.shape, generator=generator)
    noise *= noise_level
    observed, realizations = state[:, :, :CHANNELS], len(frame)
    torch.add(observed[:realizations], noise, out=frame)
    observed[:realizations] = frame
    observed[realizations:] += noise[:1]  # the twin, while there is one


def _displaced(start: Tensor, generator: Generator) -> Tensor:
    size = PERTURBATION * start[:, :CHANNELS].std((1, 2, 3), keepdim=True)
    displaced = start.clone()
    displaced[:, :CHANNELS] += size * torch.randn(start[:, :CHANNELS].shape, generator=generator)
    return displaced


def _distance(state: Tensor) -> Tensor:
    """The root mean square distance `[B]` of the last lane from the first."""
    return (state[-1, :, :CHANNELS] - state[0, :, :CHANNELS]).square().mean((1, 2, 3)).sqrt()
