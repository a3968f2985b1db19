"""Statistics of fields against plain numpy and known values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.simulator import fields

FIELD = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1.5


def cells(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy().reshape(*x.shape[:-2], -1)


def test_moments_match_scipy() -> None:
    found = fields.moments(FIELD)
    plain = cells(FIELD)
    expected = {
        "mean": plain.mean(-1),
        "std": plain.std(-1),
        "skewness": scipy.stats.skew(plain, axis=-1),
        "kurtosis": scipy.stats.kurtosis(plain, axis=-1),
        "min": plain.min(-1),
        "max": plain.max(-1),
        "energy": (plain**2).mean(-1),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_quantiles_match_numpy() -> None:
    shares = (0.0, 0.05, 0.5, 0.95, 1.0)
    for share, found in zip(shares, fields.quantiles(FIELD, shares), strict=True):
        np.testing.assert_allclose(found, np.quantile(cells(FIELD), share, axis=-1), rtol=1e-5, atol=1e-6)


def test_histogram_entropy_matches_numpy() -> None:
    counts = np.histogram(FIELD[1, 2].numpy(), bins=fields.ENTROPY_BINS)[0]
    assert fields.histogram_entropy(FIELD)[1, 2].item() == pytest.approx(scipy.stats.entropy(counts, base=2), abs=1e-5)


@pytest.mark.parametrize("grid", [8, 9])
def test_spectrum_obeys_parseval(grid: int) -> None:
    x = torch.randn(3, grid, grid, generator=torch.Generator().manual_seed(1))
    spectrum = fields.spectrum(x)
    np.testing.assert_allclose(spectrum.shells.sum(-1) / grid**2, x.var((-2, -1), correction=0), rtol=1e-4)
    across = (x.roll(-1, -1) - x).square().mean((-2, -1))
    along = (x.roll(-1, -2) - x).square().mean((-2, -1))
    np.testing.assert_allclose(spectrum.gradient_across, across, rtol=1e-4)
    np.testing.assert_allclose(spectrum.gradient_along, along, rtol=1e-4)


@given(st.integers(1, 8))
def test_a_plane_wave_has_its_power_in_one_shell(waves: int) -> None:
    x = torch.cos(2 * torch.pi * waves * torch.arange(16) / 16).expand(16, 16)
    shells = fields.spectrum(x).shells
    assert shells.argmax().item() == waves - 1
    assert (shells[waves - 1] / shells.sum()).item() == pytest.approx(1, abs=1e-5)
    assert fields.spectral_shape(shells)["centroid"].item() == pytest.approx(waves, abs=1e-3)


def test_spectral_slope_of_a_power_law() -> None:
    k = torch.arange(1, 17, dtype=torch.float32)
    assert fields.spectral_shape(k**-3)["slope"].item() == pytest.approx(-3, abs=1e-4)


def test_laplacian_of_a_wave_is_its_eigenvalue() -> None:
    x = torch.cos(2 * torch.pi * torch.arange(16) / 16).expand(16, 16)
    torch.testing.assert_close(fields.laplacian(x), (2 * np.cos(2 * np.pi / 16) - 2) * x, atol=1e-5, rtol=1e-4)


def test_correlation_and_covariance_match_numpy() -> None:
    plain = cells(FIELD)
    assert fields.correlation(FIELD[:, 0], FIELD[:, 1])[0].item() == pytest.approx(
        np.corrcoef(plain[0, 0], plain[0, 1])[0, 1], abs=1e-5
    )
    np.testing.assert_allclose(fields.channel_covariance(FIELD)[1], np.cov(plain[1], bias=True), rtol=1e-4, atol=1e-5)


def test_total_variation_of_a_step() -> None:
    x = torch.zeros(8, 8)
    x[:, :4] = 1.0
    assert fields.total_variation(x).item() == pytest.approx(2 / 8)  # two edges in each row of eight cells


def squares(*corners: tuple[int, int]) -> torch.Tensor:
    x = torch.zeros(16, 16)
    for row, column in corners:
        x[row : row + 3, column : column + 3] = 1.0
    return x


def test_excursion_set_counts_components_and_holes() -> None:
    two = fields.excursion_set(squares((1, 1), (9, 9)))
    assert two["area"].item() == pytest.approx(18 / 256)
    assert two["perimeter"].item() == pytest.approx(24 / 256)
    assert two["euler"].item() == pytest.approx(2 / 256)
    ring = squares((1, 1))
    ring[2, 2] = 0.0
    assert fields.excursion_set(ring)["euler"].item() == pytest.approx(0)  # one component, one hole


def test_local_maxima_counts_peaks() -> None:
    x = torch.zeros(8, 8)
    x[1, 1] = x[5, 6] = 1.0
    assert fields.local_maxima(x).item() == pytest.approx(2 / 64)


def test_undefined_statistics_of_a_constant_field_are_nan() -> None:
    constant = torch.ones(4, 4)
    assert fields.moments(constant)["skewness"].isnan()
    assert fields.correlation(constant, constant).isnan()
