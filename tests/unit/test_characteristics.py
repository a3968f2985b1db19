from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.compression.characteristics import characterize


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(5, 80), features=st.integers(2, 30), seed=st.integers(0, 2**32 - 1))
def test_against_the_published_formulas(rows: int, features: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) @ rng.normal(size=(features, features)) * rng.lognormal(size=features)
    found = characterize(x)
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    correlations = np.abs(np.corrcoef(x.T))[np.triu_indices(features, 1)]
    assert found.features == features
    assert found.variance == pytest.approx(min(1.0, np.median(np.var(x, axis=0))))
    assert found.dimensionality == pytest.approx(np.log10(features + 1) / np.log10(101))
    assert found.information == pytest.approx(eigenvalues[:5].sum() / eigenvalues.sum())
    assert found.correlation == pytest.approx(correlations.mean())
    spectrum = np.sort(np.linalg.eigvalsh(np.corrcoef(x.T)))[::-1]
    assert found.spectrum == pytest.approx(spectrum, abs=1e-9)
    assert sum(found.spectrum) == pytest.approx(features)


@pytest.mark.parametrize(("features", "published"), [(24, 0.697), (5, 0.388), (31, 0.751)])
def test_published_dimensionality(features: int, published: float) -> None:
    x = np.random.default_rng(0).normal(size=(50, features))
    assert characterize(x).dimensionality == pytest.approx(published, abs=5e-4)


def test_single_feature() -> None:
    found = characterize(np.random.default_rng(0).normal(size=(50, 1)) * 10)
    assert (found.variance, found.information, found.correlation) == (1.0, 0.5, 0.0)
    assert found.spectrum == pytest.approx((1.0,))


def test_more_than_a_hundred_features() -> None:
    assert characterize(np.random.default_rng(0).normal(size=(50, 150))).dimensionality == 1.0


@pytest.mark.parametrize("x", [np.zeros((20, 3)), np.ones((20, 3)) * 1e12, np.ones((20, 1))], ids=["0", "1e12", "one"])
def test_constant_features_stay_finite(x: np.ndarray) -> None:
    found = characterize(x)
    assert found.variance == 0.0
    assert found.correlation == 0.0
    assert found.information == 0.5
    assert found.spectrum == (0.0,) * x.shape[1]


def test_the_spectrum_counts_features_that_vary() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)) * [1e-6, 1, 1e6, 0]
    assert sum(characterize(x).spectrum) == pytest.approx(3)
    copies = np.repeat(x[:, 1:2], 5, axis=1)
    assert characterize(copies).spectrum == pytest.approx((5, 0, 0, 0, 0), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-10, 14))
def test_scores_lie_between_zero_and_one(seed: int, exponent: int) -> None:
    x = np.random.default_rng(seed).standard_cauchy(size=(30, 6)) * 10.0**exponent
    found = characterize(x)
    for score in (found.variance, found.dimensionality, found.information, found.correlation):
        assert 0.0 <= score <= 1.0


def test_order_of_the_features_does_not_matter() -> None:
    x = np.random.default_rng(0).normal(size=(60, 7)) @ np.random.default_rng(1).normal(size=(7, 7))
    forward, backward = characterize(x), characterize(x[:, ::-1])
    assert forward.information == pytest.approx(backward.information)
    assert forward.correlation == pytest.approx(backward.correlation)
    assert forward.variance == backward.variance
