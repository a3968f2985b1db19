"""Strategies, bounds and sizes against the published figures, and their invariants."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.compression.capacity import _within_caps, latent_dim, match_codes, match_dims, plan_capacity
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.ratios import allocate_ratios, widen
from spinlock_dist.compression.strategies import STRATEGIES, UNIFORM_RATIOS, get_strategy
from spinlock_dist.compression.uniform_baseline import published_codes
from spinlock_dist.config import CompressionConfig, TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.live_settings import is_live_in


def scores(
    features: int, variance: float, dimensionality: float, information: float, correlation: float
) -> Characteristics:
    equally_correlated = (1 + (features - 1) * correlation, *[1 - correlation] * (features - 1))
    return Characteristics(
        features, variance, min(1.0, variance), dimensionality, information, correlation, equally_correlated
    )


@st.composite
def category_scores(draw: st.DrawFn) -> Characteristics:
    features = draw(st.integers(1, 200))
    return scores(
        features,
        variance=10 ** draw(st.floats(-9, 9)),
        dimensionality=min(1.0, float(np.log10(features + 1) / np.log10(101))),
        information=draw(st.floats(0, 1)),
        correlation=draw(st.floats(0, 1)),
    )


categories = st.lists(category_scores(), min_size=1, max_size=20)
graded = st.sampled_from([name for name in sorted(STRATEGIES) if STRATEGIES[name].need])
with_table = st.sampled_from(["variance", "dimensionality", "information", "balanced"])


@pytest.mark.parametrize(
    ("category", "ratios"),
    [
        (scores(24, 1.000, 0.697, 0.983, 0.793), (0.31, 0.85, 1.91)),
        (scores(5, 1.000, 0.388, 1.000, 0.577), (0.32, 0.88, 2.00)),
        (scores(31, 1.000, 0.751, 0.954, 0.663), (0.31, 0.85, 1.90)),
    ],
)
def test_balanced_reproduces_the_published_rows(category: Characteristics, ratios: tuple) -> None:
    assert get_strategy("balanced").published(category) == pytest.approx(ratios, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "field", "steps"),
    [
        ("variance", "variance", {0.71: (0.25, 0.75, 2.0), 0.7: (0.4, 1.0, 1.8), 0.4: (0.5, 1.0, 1.5)}),
        ("dimensionality", "dimensionality", {0.81: (0.3, 0.8, 1.5), 0.8: (0.4, 1.0, 1.8), 0.5: (0.5, 1.2, 2.0)}),
    ],
)
def test_published_tables_by_score(name: str, field: str, steps: dict) -> None:
    for score, ratios in steps.items():
        given = {"variance": 0.5, "dimensionality": 0.5, "information": 0.5, "correlation": 0.5} | {field: score}
        assert get_strategy(name).published(scores(10, **given)) == ratios


def test_published_information_table_is_by_the_mean_of_information_and_correlation() -> None:
    published = get_strategy("information").published
    assert published(scores(10, 1, 0.5, 0.9, 0.6)) == (0.3, 0.7, 1.2)
    assert published(scores(10, 1, 0.5, 0.9, 0.1)) == (0.5, 1.0, 1.5)
    assert published(scores(10, 1, 0.5, 0.5, 0.1)) == (0.6, 1.5, 2.5)


def test_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'balanced'"):
        get_strategy("balancd")


@pytest.mark.parametrize(
    ("features", "ratio", "dim"), [(14, 0.5, 8), (14, 1.0, 16), (14, 1.5, 24), (1, 0.1, 4), (20, 0.6, 12), (33, 4, 132)]
)
def test_latent_dim_is_a_multiple_of_four_rounded_up(features: int, ratio: float, dim: int) -> None:
    assert latent_dim(features, ratio) == dim


@pytest.mark.parametrize("ratio", [0.0, -1.0, 4.01])
def test_latent_dim_refuses_ratios_out_of_range(ratio: float) -> None:
    with pytest.raises(ConfigError, match="compression ratio"):
        latent_dim(10, ratio)


def test_published_codes() -> None:
    assert published_codes(14) == (24, 13, 6)
    assert published_codes(33) == (32, 17, 8)
    assert published_codes(1) == (15, 6, 6)  # the floor for 10,000 samples


@given(categories, graded, st.floats(0.1, 5))
def test_graded_ratios_span_the_bounds(given: list[Characteristics], strategy: str, sharpness: float) -> None:
    config = CompressionConfig(strategy=strategy, rule="graded", sharpness=sharpness)
    ratios = allocate_ratios(config, given)
    for level, (low, high) in enumerate(config.bounds.pairs()):
        assert (ratios[:, level] >= low * (1 - 1e-9)).all()
        assert (ratios[:, level] <= high * (1 + 1e-9)).all()
        if np.ptp(ratios[:, level]) > 0:
            assert ratios[:, level].max() / ratios[:, level].min() == pytest.approx(high / low)


@given(categories, with_table, st.floats(1, 4))
def test_published_rule_is_widened_to_the_minimum_range(
    given: list[Characteristics], strategy: str, minimum: float
) -> None:
    published = allocate_ratios(CompressionConfig(strategy=strategy, rule="spinlock"), given)
    ratios = allocate_ratios(CompressionConfig(strategy=strategy, rule="spinlock", min_ratio_range=minimum), given)
    assert (ratios > 0).all() and (ratios <= 4 + 1e-9).all()
    for level in range(3):
        if np.ptp(published[:, level]) > 1e-6:
            assert ratios[:, level].max() / ratios[:, level].min() >= minimum * (1 - 1e-9)


def test_a_range_that_the_bounds_forbid_names_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"min_ratio_range 5 .* allow 4"):
        allocate_ratios(CompressionConfig(min_ratio_range=5), [scores(10, 1, 0.5, 0.5, 0.5)])


def test_bounds_that_nothing_reads_forbid_nothing() -> None:
    found = [scores(10, 1, 0.9, 0.5, 0.5), scores(10, 1, 0.2, 0.5, 0.5)]
    narrow = {"L0": {"low": 0.5, "high": 0.6}}
    for bounds in ({}, narrow):
        config = CompressionConfig(strategy="dimensionality", rule="spinlock", min_ratio_range=5, bounds=bounds)
        ratios = allocate_ratios(config, found)
        np.testing.assert_allclose(ratios.max(axis=0) / ratios.min(axis=0), 5)


def test_widening_keeps_the_geometric_mean_and_order() -> None:
    ratios = np.array([0.3, 0.31, 0.33])
    widened = widen(ratios, 2.0, np.zeros(3))
    assert widened.max() / widened.min() == pytest.approx(2.0)
    assert np.log(widened).mean() == pytest.approx(np.log(ratios).mean())
    assert (np.argsort(widened) == np.argsort(ratios)).all()


def test_equal_ratios_are_widened_along_the_need() -> None:
    widened = widen(np.full(3, 0.5), 2.0, np.array([0.0, 1.0, 0.5]))
    assert widened.max() / widened.min() == pytest.approx(2.0)
    assert widened.argmax() == 1 and widened.argmin() == 0


@given(categories, graded, st.sampled_from(["latent", "codes"]), st.integers(20, 20_000), st.floats(0.2, 4))
def test_matched_budget_holds_exactly_or_within_one_percent_below(
    given: list[Characteristics], strategy: str, capacity: str, rows: int, sharpness: float
) -> None:
    baseline = plan_capacity(CompressionConfig(strategy="uniform"), given, rows)
    config = CompressionConfig(strategy=strategy, capacity=capacity, sharpness=sharpness)
    plan = plan_capacity(config, given, rows)
    assert plan.bits_per_sample <= baseline.bits_per_sample + 1e-6
    # With a cap of two or three codes a whole step can be more than a percent; then the rest is less than a step.
    step = np.log2(plan.codes.max() / max(1, plan.codes.max() - 1)) if plan.codes.max() > 1 else 0.0
    assert plan.bits_per_sample >= min(0.99 * baseline.bits_per_sample, baseline.bits_per_sample - step) - 1e-6
    assert plan.dims.sum() == baseline.dims.sum()
    assert (plan.codes >= 1).all() and (plan.codes <= max(1, rows // 8)).all()
    assert (plan.dims % 4 == 0).all() and (plan.dims >= 4).all()
    assert (np.diff((plan.codes == 1).astype(int), axis=2) >= 0).all(), (
        "a codebook of one code is none; the others come first"
    )
    if capacity == "latent":
        assert (plan.codes == baseline.codes).all()
    if capacity == "codes":
        assert (plan.dims == baseline.dims).all()


@given(st.lists(st.floats(0.01, 12), min_size=1, max_size=30), st.integers(2, 1024))
def test_match_codes_redistributes_what_the_cap_cuts_off(wanted: list[float], cap: int) -> None:
    bits = np.array(wanted)[:, None]
    budget = 0.5 * len(wanted) * np.log2(cap)
    codes = match_codes(bits, budget, cap)
    left = budget - np.log2(codes).sum()
    assert left >= -1e-6
    affordable = np.log2((codes + 1) / codes)[codes < cap]
    assert (affordable > left - 1e-6).all()


@given(st.integers(0, 10_000), st.integers(2, 1024), st.integers(1, 3))
def test_match_codes_leaves_less_than_a_step_of_the_budget(seed: int, cap: int, books: int) -> None:
    wanted, budget = drawn_shares(seed, cap, books)
    codes = match_codes(wanted, budget, cap, books)
    left = budget - np.log2(codes).sum()
    assert (codes >= 1).all() and (codes <= cap).all() and left >= -1e-6
    # Codebooks beyond those that a level needs are none at all.
    steps = np.log2((codes + 1) / codes)[(codes > 1) & (codes < cap)]
    assert (steps > left - 1e-6).all()


def test_match_codes_meets_the_bits_of_categories_where_rounding_by_level_would_not() -> None:
    # The nearest codes, 4, 3 and 3, have 5.17 of 5.40 bits: on three components a tenth of their error more.
    wanted = np.log2([[4.2, 3.3, 3.04], [64, 64, 64], [500, 400, 300]])
    codes = match_codes(wanted, float(wanted.sum()), 1024)[..., 0]
    assert codes[0].tolist() == [5, 3, 3]
    assert np.log2(codes).sum(axis=1) == pytest.approx(wanted.sum(axis=1), rel=0.02)
    # What that is too much is taken from large categories, where it matters least.
    assert np.log2(codes).sum(axis=1)[1:] == pytest.approx(wanted.sum(axis=1)[1:], rel=0.003)


@pytest.mark.parametrize("cap", [8, 30, 200, 1024])
def test_match_codes_is_nearer_to_the_bits_of_categories_than_largest_remainder(cap: int) -> None:
    for seed in range(20):
        wanted, budget = drawn_shares(seed, cap, 1, categories=20)
        asked = _within_caps(wanted, budget, float(np.log2(cap)), 1)
        off = np.log2(match_codes(wanted, budget, cap)).sum(axis=(1, 2)) / asked.sum(axis=1) - 1
        before = np.log2(largest_remainder(asked, budget, cap)).sum(axis=1) / asked.sum(axis=1) - 1
        assert (off**2).sum() < (before**2).sum()


def drawn_shares(seed: int, cap: int, books: int, categories: int | None = None) -> tuple[np.ndarray, float]:
    """Return wanted bits `[C, 3]` and a budget that they can spend."""
    generator = np.random.default_rng(seed)
    wanted = generator.uniform(0.05, 8, (categories or generator.integers(1, 30), 3))
    return wanted, generator.uniform(0.1, 1) * min(wanted.sum(), wanted.size * books * np.log2(cap))


def largest_remainder(share: np.ndarray, budget: float, cap: int) -> np.ndarray:
    """Return codes `[C, L]` rounded level by level: that farthest below its `share` gets the next code."""
    codes = np.clip(np.floor(2.0**share + 1e-9), 1, cap)
    while True:
        cost = np.log2((codes + 1) / codes)
        affordable = (codes < cap) & (cost <= budget - np.log2(codes).sum() + 1e-9)
        if not affordable.any():
            return codes
        codes[np.unravel_index(np.where(affordable, share - np.log2(codes), -np.inf).argmax(), codes.shape)] += 1


@given(st.lists(st.floats(0.05, 300), min_size=1, max_size=30), st.integers(0, 200))
def test_match_dims_meets_the_budget_exactly(wanted: list[float], extra: int) -> None:
    budget = 4 * (len(wanted) + extra)
    dims = match_dims(np.array(wanted)[:, None], budget)
    assert dims.sum() == budget and (dims >= 4).all() and (dims % 4 == 0).all()


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_gives_ratios_for_any_categories(name: str) -> None:
    given = [scores(1, 0.0, 0.15, 0.5, 0.0), scores(33, 1e12, 0.77, 0.9, 0.7), scores(200, 1e-12, 1.0, 0.1, 0.1)]
    for rule in ("graded", "spinlock"):
        ratios = allocate_ratios(CompressionConfig(strategy=name, rule=rule), given)
        assert ratios.shape == (3, 3) and (ratios > 0).all() and (ratios <= 4).all()


def test_uniform_is_uniform_whatever_the_settings() -> None:
    config = CompressionConfig(strategy="uniform", min_ratio_range=2.0)
    plan = plan_capacity(config, [scores(14, 1, 0.5, 0.9, 0.5), scores(40, 5, 0.8, 0.2, 0.1)], 10_000)
    assert (plan.ratios == UNIFORM_RATIOS).all()
    assert plan.codes[..., 0].tolist() == [list(published_codes(14)), list(published_codes(40))]


def test_rounding_that_leaves_a_first_codebook_one_code_moves_it_behind_the_others() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        wanted = rng.uniform(0, 3, size=(12, 3)) * (rng.random((12, 3)) < 0.8)
        wanted[0] += 0.5
        codes = match_codes(wanted, float(rng.uniform(0.3, 0.9) * 12 * 3 * 4 * 2), 4, 4)
        assert not ((codes[..., :1] == 1) & (codes > 1)).any()


def test_given_ratios_are_those_of_the_config_by_the_names_of_the_categories() -> None:
    categories = [replace(scores(14, 1, 0.5, 0.9, 0.5), name="b"), replace(scores(40, 5, 0.8, 0.2, 0.1), name="a")]
    by_name = {"a": (0.3, 0.8, 1.8), "b": (1.0, 2.0, 3.0)}
    ratios = allocate_ratios(CompressionConfig(strategy="given", given=by_name), categories)
    assert ratios.tolist() == [[1.0, 2.0, 3.0], [0.3, 0.8, 1.8]]
    alike = allocate_ratios(CompressionConfig(strategy="given", given=(0.3, 0.8, 1.8)), categories)
    assert alike.tolist() == [[0.3, 0.8, 1.8]] * 2
    uniform = plan_capacity(CompressionConfig(strategy="given"), categories, 10_000)
    assert (uniform.codes == plan_capacity(CompressionConfig(strategy="uniform"), categories, 10_000).codes).all()


def test_given_ratios_of_other_categories_are_refused_with_their_names() -> None:
    categories = [replace(scores(14, 1, 0.5, 0.9, 0.5), name="b")]
    config = CompressionConfig(strategy="given", given={"a": (0.3, 0.8, 1.8)})
    with pytest.raises(ConfigError, match=r"gives none for b and names a, .*prepare\.categories\.mapping"):
        allocate_ratios(config, categories)


@pytest.mark.parametrize("where", ["ratios.yaml", "ratios.json", "checkpoint", "study"])
def test_given_ratios_come_from_files_and_studies(tmp_path: Path, where: str) -> None:
    ratios = {"a": [0.3, 0.8, 1.8], "b": [1.0, 2.0, 3.0]}
    path = tmp_path / where
    if where.startswith("ratios"):
        path.write_text(json.dumps(ratios))
    else:
        folder = path if where == "checkpoint" else path / "best" / "checkpoint"
        folder.mkdir(parents=True)
        meta = {"categories": {"a": [0], "b": [1, 2]}, "plan": {"ratios": [*ratios.values()]}}
        (folder / "meta.json").write_text(json.dumps(meta))
    config = CompressionConfig.model_validate({"strategy": "given", "given": str(path)})
    assert config.given == {name: tuple(row) for name, row in ratios.items()}
    assert CompressionConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nothing.yaml", "no such file"),
        ({}, "no categories"),
        ([1, 2], "three ratios"),
        ({"a": "0.5:1"}, "a: expected three ratios"),
        ([0, 1, 2], "above 0"),
        ([1, 2, 4.1], "up to 4"),
        ([1, 2, float("nan")], "above 0"),
        (3, "three ratios"),
    ],
)
def test_what_are_no_ratios_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompressionConfig(given=value)


def test_a_folder_without_ratios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"meta\.json"):
        CompressionConfig.model_validate({"given": str(tmp_path)})
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no ratios"):
        CompressionConfig.model_validate({"given": str(tmp_path)})


@pytest.mark.parametrize("rule", ["graded", "spinlock"])
@pytest.mark.parametrize("name", [name for name in sorted(STRATEGIES) if name not in ("given", "feedback")])
@given(found=categories)
def test_what_a_strategy_does_not_read_changes_nothing(name: str, rule: str, found: list[Characteristics]) -> None:
    others: dict[str, Any] = {
        "rule": "spinlock" if rule == "graded" else "graded",
        "capacity": "latent",
        "bounds": {"L0": {"low": 0.2, "high": 1.9}},
        "sharpness": 2.5,
        "min_ratio_range": 1.3,
    }
    base = {"strategy": name, "rule": rule}
    config = TrialConfig(compression=base)
    unread = {setting: value for setting, value in others.items() if not is_live_in(config, f"compression.{setting}")}
    plan, changed = (plan_capacity(CompressionConfig(**given), found, 4000) for given in (base, base | unread))
    for part in ("ratios", "dims", "codes"):
        np.testing.assert_array_equal(getattr(plan, part), getattr(changed, part))
