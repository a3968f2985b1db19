"""Codecs without a network: what is particular to each; `tests/contracts` holds what they share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spinlock_dist.baselines import Codec, fit_codec, score_codec
from spinlock_dist.baselines.pca_scalar import Grid, PCAScalar
from spinlock_dist.baselines.residual_kmeans import ResidualKMeans
from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity
from spinlock_dist.compression.rate_distortion import fvu_at_rate
from spinlock_dist.config import CompressionConfig, PrepareConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.metrics.reconstruction import fraction_unexplained
from spinlock_dist.prepare import PreparedData, prepare
from tests.synthetic import write_table


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", rows=600)
    return prepare(PrepareConfig(dataset=str(dataset), categories={"count": 3}))


@pytest.fixture(scope="module")
def plan(data: PreparedData) -> CapacityPlan:
    return plan_capacity(CompressionConfig(strategy="uniform"), data.characteristics, len(data.split.train))


def fitted(name: str, data: PreparedData, plan: CapacityPlan, seed: int = 0) -> Codec:
    return fit_codec(name, data.values[data.split.train], data.categories, plan, seed, beam=4)


def test_unknown_codec_names_the_nearest(data: PreparedData, plan: CapacityPlan) -> None:
    with pytest.raises(ConfigError, match="pca_scalar"):
        fitted("pca_scaler", data, plan)


# ---------------------------------------------------------------- residual k-means


def test_residual_kmeans_uses_its_codes(data: PreparedData, plan: CapacityPlan) -> None:
    codec = fitted("residual_kmeans", data, plan)
    assert (codec.codes == plan.codes[..., 0]).all()
    assert score_codec(codec, data, "validation").utilization >= 0.99


def test_residual_kmeans_finds_separate_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[10, 0], [0, 10], [-10, 0]])
    x = centres[rng.integers(3, size=200)] + rng.normal(scale=0.01, size=(200, 2))
    coder = ResidualKMeans.fit(x, np.array([3, 1, 1]), torch.Generator().manual_seed(0), beam=1)
    assert coder.decode(coder.encode(x)) == pytest.approx(x, abs=0.1)


# ---------------------------------------------------------------- PCA and scalar quantization


@pytest.mark.parametrize(
    ("cells", "least", "uniform"),
    [(2, 0.3634, 0.3634), (4, 0.1175, 0.1188), (8, 0.03454, 0.03744), (16, 0.009497, 0.01154), (32, 0.002499, 0.00349)],
)
def test_a_grid_lies_between_the_best_quantizer_of_a_normal_and_the_best_uniform_one(
    cells: int, least: float, uniform: float
) -> None:
    # Max 1960, "Quantizing for minimum distortion", tables I and II.
    scores = np.random.default_rng(0).normal(size=50_000)
    grid = Grid.fit(scores, cells)
    assert 0.98 * least < np.square(scores - grid.values[grid.encode(scores)]).mean() < 1.02 * uniform


def test_pca_scalar_spends_where_the_variance_is() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 10)) + 0.01 * rng.normal(size=(4000, 10))
    codes = np.array([64, 16, 8])
    coder = PCAScalar.fit(x, codes, torch.Generator(), beam=1)
    assert len(coder.codes) == 3
    reference = fvu_at_rate(np.linalg.eigvalsh(np.cov(x.T)), np.log2(codes).sum())
    fvu = fraction_unexplained(x, coder.decode(coder.encode(x)), x.mean(axis=0), range(10))
    assert reference < fvu < 3 * reference  # at 4 to 5 bits the best uniform quantizer itself costs 3 to 3.6 times


def test_pca_scalar_does_not_spend_on_copies() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(500, 1)), 6, axis=1)
    coder = PCAScalar.fit(x, np.array([4, 4, 4]), torch.Generator(), beam=1)
    assert coder.codes == (64,)


@pytest.mark.filterwarnings("error")
def test_pca_scalar_leaves_heavy_tails_outside_and_stands_ties() -> None:
    rng = np.random.default_rng(0)
    heavy = rng.standard_t(3, size=(2000, 1))
    coder = PCAScalar.fit(heavy, np.array([16]), torch.Generator(), beam=1)
    [grid] = coder.grids
    assert np.ptp(grid.values) < 0.8 * np.ptp(heavy)
    tied = (rng.random((2000, 1)) < 0.05).astype(float)
    coder = PCAScalar.fit(tied, np.array([2]), torch.Generator(), beam=1)
    assert coder.decode(coder.encode(tied)) == pytest.approx(tied, abs=1e-6)
