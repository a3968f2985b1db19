"""What holds for every codec without a network, from normalized features to files."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from spinlock_dist.baselines import CODECS, Codec, fit_codec, score_codec
from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity
from spinlock_dist.config import CompressionConfig, PrepareConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
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


def with_codes(plan: CapacityPlan, codes: int) -> CapacityPlan:
    return CapacityPlan(plan.ratios, plan.dims, np.full_like(plan.codes, codes))


def raw_table(data: PreparedData) -> FeatureTable:
    return load_table(data.config)


@pytest.mark.parametrize("name", sorted(CODECS))
class TestCodec:
    def test_tokens_stay_within_their_codebooks_and_the_budget(
        self, name: str, data: PreparedData, plan: CapacityPlan
    ) -> None:
        codec = fitted(name, data, plan)
        tokens = codec.encode(data.values)
        assert tokens.dtype == np.int64 and tokens.shape == (len(data.values), *codec.codes.shape)
        assert (tokens >= 0).all() and (tokens < codec.codes).all()
        assert (np.log2(codec.codes).sum(axis=1) <= plan.bits.sum(axis=1) + 1e-9).all()
        assert codec.bits_per_sample >= 0.95 * plan.bits_per_sample

    def test_what_is_decoded_has_the_reported_error(self, name: str, data: PreparedData, plan: CapacityPlan) -> None:
        codec = fitted(name, data, plan)
        score = score_codec(codec, data, "validation")
        rows = data.split.validation
        rebuilt = codec.decode(codec.encode(data.values))[rows]
        mean = data.values[data.split.train].mean(axis=0, dtype=np.float64)
        for category in data.categories:
            error = fraction_unexplained(data.values[rows], rebuilt, mean, category.columns)
            assert score.fvu[category.name] == pytest.approx(error, rel=1e-5)
            columns = list(category.columns)
            raw, rebuilt_raw = (data.pipeline.invert(values)[:, columns] for values in (data.values[rows], rebuilt))
            assert score.mse_raw[category.name] == pytest.approx(np.mean((raw - rebuilt_raw) ** 2), rel=1e-6)
        assert score.imbalance_raw == pytest.approx(max(score.mse_raw.values()) / min(score.mse_raw.values()))
        assert score.imbalance_raw > 10 * score.imbalance, "categories on scales a hundredfold apart"
        assert score.fvu_worst == max(score.fvu.values()) == score.fvu[score.worst_category]
        assert score.imbalance == pytest.approx(score.fvu_worst / min(score.fvu.values()))
        assert min(score.fvu.values()) <= score.fvu_mean <= score.fvu_worst < 0.9
        assert score.bits_per_sample == codec.bits_per_sample

    def test_more_bits_leave_less(self, name: str, data: PreparedData, plan: CapacityPlan) -> None:
        scores = [score_codec(fitted(name, data, with_codes(plan, codes)), data, "train") for codes in (2, 4, 8, 16)]
        for fewer, more in pairwise(scores):
            assert all(more.fvu[category] < fewer.fvu[category] for category in fewer.fvu)

    def test_levels_switched_off_leave_the_mean(self, name: str, data: PreparedData, plan: CapacityPlan) -> None:
        codec = fitted(name, data, with_codes(plan, 1))
        score = score_codec(codec, data, "train")
        assert codec.bits_per_sample == 0
        assert list(score.fvu.values()) == pytest.approx([1.0] * 3, rel=1e-5)
        assert score.utilization == 1.0

    def test_the_same_seed_gives_the_same_codec(self, name: str, data: PreparedData, plan: CapacityPlan) -> None:
        first, again = fitted(name, data, plan), fitted(name, data, plan)
        assert (first.encode(data.values) == again.encode(data.values)).all()
        tokens = first.encode(data.values)
        assert (first.decode(tokens) == again.decode(tokens)).all()

    def test_a_category_does_not_depend_on_the_others(self, name: str, data: PreparedData, plan: CapacityPlan) -> None:
        last = data.categories[-1]
        alone = CapacityPlan(plan.ratios[-1:], plan.dims[-1:], plan.codes[-1:])
        values = data.values[:, last.columns]
        here = Category(last.name, tuple(range(len(last))))
        codec = fit_codec(name, values[data.split.train], [here], alone, seed=0, beam=4)
        together = fitted(name, data, plan)
        slots = codec.codes.shape[1]
        assert (codec.encode(values)[:, 0] == together.encode(data.values)[:, -1, :slots]).all()

    def test_foreign_tokens_are_refused(self, name: str, data: PreparedData, plan: CapacityPlan) -> None:
        codec = fitted(name, data, plan)
        tokens = codec.encode(data.values[:5])
        with pytest.raises(DataError, match=r"tokens must be \[N, 3, \d+\]"):
            codec.decode(tokens[:, :2])
        with pytest.raises(DataError, match="beyond its codebook"):
            codec.decode(tokens + 10_000)
        assert codec.decode(tokens[:0]).shape == (0, data.values.shape[1])

    def test_decoded_features_are_in_raw_units(self, name: str, data: PreparedData, plan: CapacityPlan) -> None:
        codec = fitted(name, data, plan)
        rows = data.split.validation
        raw = data.pipeline.clean(raw_table(data))[rows]
        rebuilt = data.pipeline.invert(codec.decode(codec.encode(data.values[rows])))
        score = score_codec(codec, data, "validation")
        for category in data.categories:
            columns = list(category.columns)
            error = np.mean((raw[:, columns] - rebuilt[:, columns]) ** 2)
            assert error == pytest.approx(score.mse_raw[category.name], rel=1e-4)
