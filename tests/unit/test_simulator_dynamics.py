"""The physics of each kind of operator, and what its features say about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinlock_dist.config import SimulatorConfig
from spinlock_dist.simulator.dynamics import DYNAMICS, propagator
from spinlock_dist.simulator.extract import FAMILIES, simulate_block
from spinlock_dist.simulator.features_summary import SUMMARY_GROUPS
from spinlock_dist.simulator.initial_conditions import TYPES, draw_initial_fields
from spinlock_dist.simulator.parameters import (
    DIMENSIONS,
    INITIAL_CONDITIONS,
    KINDS,
    NAMES,
    POLICIES,
    Parameters,
    draw_parameters,
)
from spinlock_dist.simulator.recording import Recording
from spinlock_dist.simulator.simulate import simulate

ROWS = 16


def quiet(count: int = ROWS, **fixed: float) -> Parameters:
    """Return parameters without noise, with smooth random fields and the given values fixed."""
    values = draw_parameters(0, 0, count).values.clone()
    for name, value in {"noise": 0.0, "initial_condition": 0.0, "slope": 4.0, **fixed}.items():
        values[:, NAMES.index(name)] = value
    return Parameters(values)


def record(kind: str, parameters: Parameters, steps: int = 32) -> Recording:
    generator = torch.Generator().manual_seed(0)
    return simulate(kind, parameters, grid=16, steps=steps, realizations=2, generator=generator)


def test_parameters_cover_their_ranges_evenly() -> None:
    parameters = draw_parameters(0, 0, 256)
    for index, dimension in enumerate(DIMENSIONS):
        values = parameters.values[:, index]
        assert values.min() >= dimension.low
        assert values.max() <= dimension.high
    assert np.bincount(parameters.codes("kind")).tolist() == [256 // len(KINDS)] * len(KINDS)
    assert set(parameters.codes("policy")) == set(range(len(POLICIES)))


def test_parameters_do_not_depend_on_how_many_are_drawn_at_once() -> None:
    whole = draw_parameters(7, 0, 64).values
    torch.testing.assert_close(draw_parameters(7, 40, 24).values, whole[40:], rtol=0, atol=0)
    assert not torch.equal(draw_parameters(8, 0, 64).values, whole)


@pytest.mark.parametrize("name", INITIAL_CONDITIONS)
def test_initial_fields_are_finite_periodic_patterns(name: str) -> None:
    fields = TYPES[name](quiet(), 32, torch.Generator().manual_seed(1))
    assert fields.shape == (ROWS, 3, 32, 32)
    assert fields.isfinite().all()
    assert 0.1 < fields.std() < 3


def test_steeper_random_fields_are_smoother() -> None:
    def roughness(slope: float) -> float:
        x = draw_initial_fields(quiet(slope=slope), 32, torch.Generator().manual_seed(1))
        return ((x.roll(1, -1) - x).square().mean() / x.var()).item()

    assert roughness(4.0) < roughness(2.0) < roughness(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stays_finite_at_the_ends_of_its_ranges(kind: str) -> None:
    parameters = draw_parameters(0, 0, 2 * len(DIMENSIONS))
    for index, dimension in enumerate(DIMENSIONS):
        if dimension.scale != "choice":
            parameters.values[2 * index, index] = dimension.low
            parameters.values[2 * index + 1, index] = dimension.high
    assert record(kind, parameters, steps=64).frames.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_realizations_differ_by_noise_alone(kind: str) -> None:
    frames = record(kind, quiet()).frames
    torch.testing.assert_close(frames[:, 0], frames[:, 1])
    noisy = record(kind, quiet(noise=0.01)).frames
    assert (noisy[:, 0] != noisy[:, 1]).any()


def test_diffusion_conserves_the_mean_and_lowers_the_variance() -> None:
    recording = record("diffusion", quiet())
    mean, std = recording.series["mean"], recording.series["std"]
    torch.testing.assert_close(mean, recording.initial.mean((-2, -1)).expand_as(mean), atol=1e-4, rtol=1e-4)
    assert (std.diff(dim=0) < 0).all()


def test_advection_keeps_the_energy_and_moves_at_its_speed() -> None:
    speed, angle = 0.5, 0.0
    recording = record("advection", quiet(speed=speed, angle=angle, diffusivity=0.0))
    energy = recording.series["energy"]
    torch.testing.assert_close(
        energy, recording.initial.square().mean((-2, -1)).expand_as(energy), rtol=0.02, atol=1e-3
    )
    drift = SUMMARY_GROUPS["drift"](recording)
    expected = speed * (1.0 + 0.75 + 0.5) / 3  # the three channels move at these multiples
    torch.testing.assert_close(drift["phase_speed_across"], torch.full((ROWS,), expected), rtol=1e-2, atol=1e-3)


def test_propagator_shifts_by_whole_cells_exactly() -> None:
    matrix = propagator(torch.tensor(0.0), torch.tensor(3.0), 9)
    x = torch.randn(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(matrix @ x, x.roll(3), atol=1e-5, rtol=1e-5)


def test_propagator_damps_each_mode_by_its_exact_rate() -> None:
    x = torch.cos(2 * torch.pi * 2 * torch.arange(16) / 16)
    damped = propagator(torch.tensor(0.3), torch.tensor(0.0), 16) @ x
    torch.testing.assert_close(damped, x * np.exp(-0.3 * (2 * np.pi * 2 / 16) ** 2), atol=1e-5, rtol=1e-5)


def test_a_wave_oscillates_about_its_mean() -> None:
    parameters = quiet(speed=2.0, damping=0.0, coupling=0.0, offset=0.0)
    recording = record("wave", parameters, steps=64)
    memory = torch.stack([(frame[0] * recording.initial).mean((1, 2, 3)) for frame in recording.frames])
    assert (memory.amin(0) < -0.3 * recording.initial.square().mean((1, 2, 3))).all()  # it swings to the other side
    assert recording.series["energy"].amax() < 2 * recording.initial.square().mean((-2, -1)).amax()


def test_gray_scott_rests_where_nothing_is_seeded() -> None:
    parameters = quiet(4)
    rest = torch.zeros(1, 4, 3, 8, 8)
    rest[:, :, 0] = 1.0
    step = DYNAMICS["gray_scott"](parameters, 8, torch.Generator()).step
    torch.testing.assert_close(step(rest), rest)


@pytest.mark.parametrize("policy", POLICIES)
def test_convolution_follows_its_update_policy(policy: str) -> None:
    parameters = quiet(4, policy=POLICIES.index(policy), rate=0.25)
    generator = torch.Generator().manual_seed(0)
    full = DYNAMICS["convolution_tanh"](replace_policy(parameters, "autoregressive"), 8, generator).step
    generator.manual_seed(0)
    step = DYNAMICS["convolution_tanh"](parameters, 8, generator).step
    state = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    response = full(state)
    expected = {
        "residual": state + 0.25 * response,
        "convex": 0.75 * state + 0.25 * response,
        "autoregressive": response,
    }
    torch.testing.assert_close(step(state), expected[policy])


def replace_policy(parameters: Parameters, policy: str) -> Parameters:
    values = parameters.values.clone()
    values[:, NAMES.index("policy")] = POLICIES.index(policy)
    return replace(parameters, values=values)


def test_convolution_equals_a_plain_periodic_sum() -> None:
    parameters = quiet(2, policy=POLICIES.index("autoregressive"), bias=0.0, gain=1.0)
    state = torch.randn(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    step = DYNAMICS["convolution_tanh"](parameters, 8, torch.Generator().manual_seed(0)).step
    impulse = torch.zeros(1, 2, 3, 8, 8)
    impulse[:, :, 1, 4, 4] = 1e-3  # small enough that tanh is the identity
    kernel = step(impulse) / 1e-3  # [1, B, C, 8, 8]: response to channel 1, centred at (4, 4)
    alone = torch.zeros_like(state)
    alone[:, :, 1] = 1e-3 * state[:, :, 1]
    found = step(alone) / 1e-3
    offsets = [(i, j) for i in range(8) for j in range(8)]
    expected = sum(kernel[..., i, j, None, None] * state[:, :, 1:2].roll((i - 4, j - 4), (-2, -1)) for i, j in offsets)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_sensitivity_of_diffusion_and_of_advection() -> None:
    damped = SUMMARY_GROUPS["sensitivity"](record("diffusion", quiet(diffusivity=0.5)))
    carried = SUMMARY_GROUPS["sensitivity"](record("advection", quiet(diffusivity=0.0)))
    assert (damped["lyapunov"] < -0.02).all()
    assert carried["lyapunov"].abs().max() < 0.02


def test_growth_rate_of_an_exponential() -> None:
    amplitude = torch.exp(0.05 * torch.arange(1, 17)).reshape(-1, 1, 1, 1, 1, 1)
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    recording = Recording(initial=start, frames=amplitude * start, divergence=torch.ones(8, 2))
    growth = SUMMARY_GROUPS["growth"](recording)
    for name in ("energy_rate", "energy_rate_late", "variance_rate", "gradient_rate"):
        torch.testing.assert_close(growth[name], torch.full((2,), 0.1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(growth["energy_rising_share"], torch.ones(2))


def test_oscillation_finds_the_period() -> None:
    time = torch.arange(1, 33).reshape(-1, 1, 1, 1, 1, 1)
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    frames = torch.cos(2 * torch.pi * time / 8) * start
    oscillation = SUMMARY_GROUPS["oscillation"](Recording(initial=start, frames=frames, divergence=torch.ones(8, 2)))
    torch.testing.assert_close(oscillation["dominant"], torch.full((2,), 4.0))  # 32 steps hold four periods
    assert (oscillation["peak_share"] > 0.99).all()


@pytest.mark.parametrize("realizations", [1, 3])
def test_families_have_the_same_columns_whatever_the_settings(realizations: int) -> None:
    usual = simulate_block(SimulatorConfig(grid=8, steps=8), 0)
    other = simulate_block(SimulatorConfig(grid=9, steps=11, realizations=realizations, seed=1), 128)
    assert usual.registries == other.registries
    for family, registry in usual.registries.items():
        names = [name for group in registry.values() for name in group]
        assert len(names) == len(set(names)) == other.families[family].shape[-1]
        assert list(registry) == list(FAMILIES[family])


def test_a_block_is_simulated_alike_again_and_unlike_its_neighbour() -> None:
    config = SimulatorConfig(grid=8, steps=8)
    one, again, next_block = simulate_block(config, 0), simulate_block(config, 0), simulate_block(config, 128)
    np.testing.assert_array_equal(one.families["summary"], again.families["summary"])
    assert not np.array_equal(one.fields, next_block.fields)
