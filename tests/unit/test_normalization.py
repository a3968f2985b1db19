from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spinlock_dist.features.normalization import Kind, fit_normalization

KINDS: tuple[Kind, ...] = ("standard", "robust", "quantile")

columns = arrays(np.float64, st.integers(5, 60), elements=st.floats(-(2.0**40), 2.0**40, width=32)).filter(
    lambda x: x.std() > 1e-10
)


@pytest.mark.parametrize("kind", KINDS)
class TestEveryNormalization:
    @settings(max_examples=60, deadline=None)
    @given(x=columns)
    def test_inverts_inside_the_training_range(self, kind: Kind, x: np.ndarray) -> None:
        fitted = fit_normalization(kind, x[:, None])
        back = fitted.invert(fitted.apply(x[:, None]))[:, 0]
        np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9 * np.abs(x).max())

    @settings(max_examples=60, deadline=None)
    @given(x=columns)
    def test_finite_bounded_and_in_order(self, kind: Kind, x: np.ndarray) -> None:
        z = fit_normalization(kind, x[:, None]).apply(x[:, None])[:, 0]
        assert np.isfinite(z.astype(np.float32)).all()
        assert np.abs(z).max() <= 100 * np.sqrt(len(x)) * (1 + 1e-9)
        assert (np.diff(z[np.argsort(x, kind="stable")]) >= -1e-9).all()

    def test_columns_are_treated_alone(self, kind: Kind) -> None:
        x = np.random.default_rng(0).normal(size=(80, 3)) * [1e-9, 1.0, 1e9]
        together = fit_normalization(kind, x).apply(x)
        alone = [fit_normalization(kind, x[:, [d]]).apply(x[:, [d]])[:, 0] for d in range(3)]
        np.testing.assert_allclose(together, np.column_stack(alone))

    def test_unseen_values_stay_finite(self, kind: Kind) -> None:
        x = np.random.default_rng(0).normal(size=(80, 1))
        fitted = fit_normalization(kind, x)
        assert np.isfinite(fitted.apply(np.array([[-50.0], [0.123], [50.0]]))).all()
        assert np.isfinite(fitted.invert(np.array([[-50.0], [0.123], [50.0]]))).all()


def test_standard_is_mean_zero_variance_one() -> None:
    x = np.random.default_rng(0).gamma(2.0, size=(500, 2)) * [1e-6, 1e6] + [0.0, 1e9]
    z = fit_normalization("standard", x).apply(x)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-7)


def test_robust_is_median_zero_and_quartiles_one_apart() -> None:
    x = np.random.default_rng(0).standard_cauchy(size=(501, 2))
    z = fit_normalization("robust", x).apply(x)
    np.testing.assert_allclose(np.median(z, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.subtract(*np.percentile(z, (75, 25), axis=0)), 1)


@pytest.mark.parametrize("middle", [0.0, 1e-13])
def test_robust_falls_back_to_the_standard_deviation(middle: float) -> None:
    x = np.concatenate([np.linspace(-middle, middle, 80), np.random.default_rng(0).normal(size=20)])[:, None]
    fitted = fit_normalization("robust", x)
    assert fitted.arrays["scale"][0] == pytest.approx(x.std())


def test_quantile_makes_heavy_tails_normal() -> None:
    x = np.random.default_rng(0).standard_cauchy(size=(4000, 1)) * 1e8
    z = fit_normalization("quantile", x).apply(x)[:, 0]
    assert abs(z.mean()) < 0.01
    assert z.std() == pytest.approx(1.0, abs=0.02)
    assert np.mean(z**4) / z.var() ** 2 == pytest.approx(3.0, abs=0.2)


def test_quantile_puts_ties_in_the_middle_of_their_ranks() -> None:
    x = np.repeat([0.0, 1.0, 2.0], [10, 20, 10])[:, None]
    z = fit_normalization("quantile", x).apply(x)[:, 0]
    np.testing.assert_allclose(z[15], 0.0, atol=1e-12)
    assert z[0] == pytest.approx(-z[-1])
