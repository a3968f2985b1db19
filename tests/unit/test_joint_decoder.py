"""The joint decoder: what the tokens of all categories say about each, beyond what its own decoder makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spinlock_dist.memory
from spinlock_dist.categories.category import Category
from spinlock_dist.checkpoint import load_checkpoint
from spinlock_dist.checkpoint_checks import check_sizes
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import ModelConfig, TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.errors import CheckpointError, ConfigError
from spinlock_dist.model.joint_correction import JointCorrection
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome, run_trial
from tests.synthetic import write_table


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", 600, sizes=(8, 4, 36))  # two buckets
    return TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        training={"epochs": 6, "evaluate_every": 3, "batch_size": 32, "device": "cpu"},
        model={"hidden": 8},
    )


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


@pytest.fixture(scope="module", params=["compiled", "torch"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def outcomes(config: TrialConfig, data: PreparedData, engine: str) -> tuple[TrialOutcome, TrialOutcome]:
    """One training with a decoder a category, and the same with the correction."""
    config = config.with_overrides({"training.engine": engine})
    return run_trial(config, data), run_trial(config.with_overrides({"model.decoder": "joint"}), data)


def test_tokens_stay_and_the_training_rows_are_rebuilt_better(outcomes, data) -> None:
    plain, joint = outcomes
    own, corrected = (each.reconstructed("train") for each in outcomes)
    assert [each.train for each in own.codebooks] == [each.train for each in corrected.codebooks]
    left_D, corrected_D = (np.square(each.target_ND - each.output_ND).sum(axis=0) for each in (own, corrected))
    assert (corrected_D <= left_D * (1 + 1e-5)).all(), "a ridge never leaves more of the rows it is fitted to"
    assert corrected_D.sum() < left_D.sum()
    assert joint.validation.bits_per_sample == plain.validation.bits_per_sample


def test_the_correction_is_that_of_the_outputs(outcomes) -> None:
    plain, joint = (each.reconstructed("validation") for each in outcomes)
    correction = outcomes[1].tokenizer.model.correction
    assert correction is not None
    weights_DD, bias_D = correction.weights_MDD[0].numpy(), correction.bias_MD[0].numpy()
    expected_ND = plain.output_ND + plain.output_ND @ weights_DD + bias_D
    np.testing.assert_allclose(joint.output_ND, expected_ND, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_decodes_tokens_to_what_was_measured(outcomes, data, tmp_path) -> None:
    _, joint = outcomes
    joint.save(tmp_path / "checkpoint")
    loaded = load_checkpoint(tmp_path / "checkpoint")
    raw_ND = loaded.decode(loaded.encode(load_table(joint.config.prepare)))[data.split.validation]
    np.testing.assert_allclose(raw_ND, joint.reconstructed("validation").raw_output_ND, rtol=1e-3, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 40), features=st.integers(1, 5), seed=st.integers(0, 9))
def test_a_fit_leaves_no_feature_more_than_it_had(rows: int, features: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    output_ND, target_ND = drawn.normal(size=(2, rows, features)).astype(np.float32)
    correction = JointCorrection(1, features)
    correction.fit(0, output_ND, target_ND)
    corrected_ND = output_ND + output_ND @ correction.weights_MDD[0].numpy() + correction.bias_MD[0].numpy()
    left_D, corrected_D = (np.square(target_ND - each).sum(axis=0) for each in (output_ND, corrected_ND))
    assert (corrected_D <= left_D * (1 + 1e-4) + 1e-6).all()


def test_fresh_rows_gain_what_other_features_know_and_noise_costs_them_little() -> None:
    drawn = np.random.default_rng(0)
    factor_N1, noise_ND = drawn.normal(size=(1000, 1)), drawn.normal(size=(1000, 20))
    target_ND = (factor_N1 + 0.5 * noise_ND).astype(np.float32)
    output_ND = target_ND.copy()
    output_ND[:, 0] = 0  # a category of one bit: nothing of it is rebuilt, and most of it is known from the others
    output_ND[:, 1] += drawn.normal(size=1000)
    correction = JointCorrection(1, 20)
    correction.fit(0, output_ND[:500], target_ND[:500])
    fresh_ND, rebuilt_ND = target_ND[500:], output_ND[500:]
    corrected_ND = rebuilt_ND + rebuilt_ND @ correction.weights_MDD[0].numpy() + correction.bias_MD[0].numpy()
    left_D, corrected_D = (np.square(fresh_ND - each).mean(axis=0) for each in (rebuilt_ND, corrected_ND))
    # By least squares from the others feature 0 is known up to its own noise, 0.25 and an 18th of that.
    assert corrected_D[0] == pytest.approx(0.25 * (1 + 1 / 18), rel=0.15)
    assert corrected_D[1] < 0.35 * left_D[1]
    assert (corrected_D[2:] < 0.01).all()


def test_what_is_not_finite_is_not_corrected() -> None:
    correction = JointCorrection(2, 3)
    rows_ND = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    correction.fit(0, rows_ND, 2 * rows_ND)
    correction.fit(1, np.full_like(rows_ND, np.nan), rows_ND)
    assert np.diag(correction.weights_MDD[0]) == pytest.approx(1, abs=0.1)
    assert not correction.weights_MDD[1].any()


def test_a_correction_beyond_the_memory_is_refused_before_it_is_made(tmp_path, monkeypatch) -> None:
    dataset = write_table(tmp_path / "wide.npz", rows=160, sizes=(250, 250))
    config = TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 2}},
        training={"epochs": 1, "device": "cpu"},
        model={"hidden": 4},
    )
    data = prepare(config.prepare)
    monkeypatch.setattr(spinlock_dist.memory, "available_memory", lambda: 3_000_000)
    with pytest.raises(ConfigError, match=r"of memory, 3 MB are free; .*, or take model\.decoder category"):
        run_trial(config.with_overrides({"model.decoder": "joint"}), data)
    assert run_trial(config, data).epochs == 1


def test_a_checkpoint_whose_weights_cannot_hold_a_correction_is_refused() -> None:
    categories = (Category("wide", tuple(range(3000))),)
    plan = CapacityPlan(np.ones((1, 3)), np.ones((1, 3), int), np.full((1, 3, 1), 2))
    check_sizes(plan, categories, ModelConfig(), held=1_000_000)
    with pytest.raises(CheckpointError, match="declares 9000000 weights of the joint decoder, more than"):
        check_sizes(plan, categories, ModelConfig(decoder="joint"), held=1_000_000)
