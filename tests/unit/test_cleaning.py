from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.config import CleaningConfig
from spinlock_dist.errors import DataError
from spinlock_dist.features.cleaning import Cleaning, LedgerEntry, fit_cleaning, informativeness


def clean(x: np.ndarray, **settings_: object) -> Cleaning:
    names = tuple(f"family::c{column}" for column in range(x.shape[1]))
    config = CleaningConfig.model_validate(settings_)
    return fit_cleaning(x, names, ("family",) * x.shape[1], config)


def entry(cleaning: Cleaning, column: int) -> LedgerEntry:
    return cleaning.ledger[column]


def noise(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


class TestDropping:
    @pytest.mark.parametrize("level", [0.0, 0.1, 1e12 / 3, 1e30])
    def test_constant_at_any_scale(self, level: float) -> None:
        x = noise(50, 3)
        x[:, 1] = level
        cleaning = clean(x)
        assert entry(cleaning, 1).dropped == "constant"
        assert list(cleaning.columns) == [0, 2]

    def test_constant_up_to_gaps(self) -> None:
        x = noise(50, 3)
        x[:, 1] = 4.0
        x[::3, 1] = np.nan
        assert entry(clean(x), 1).dropped == "constant"

    def test_constant_once_clipped(self) -> None:
        x = noise(1000, 3)
        x[:, 1] = 0.0
        x[17, 1] = 5.0
        found = entry(clean(x), 1)
        assert found.dropped == "constant"
        assert "once clipped" in found.detail

    def test_without_training_values(self) -> None:
        x = noise(50, 3)
        x[:, 1] = np.nan
        cleaning = clean(x)
        assert entry(cleaning, 1).dropped == "missing"
        assert entry(cleaning, 1).imputed == 50

    def test_unstable_needs_variance_and_variation(self) -> None:
        x = noise(4000, 4)
        x[:, 1] = (x[:, 1] - x[:, 1].mean()) * 1e6  # variance 1e12 about a mean of 0
        x[:, 2] = x[:, 2] * 1e6 + 1e6  # as large, but the mean is too
        x[:, 3] = x[:, 3] - x[:, 3].mean()  # as volatile, but small
        cleaning = clean(x)
        assert [item.dropped for item in cleaning.ledger] == [None, "unstable", None, None]

    def test_duplicate_names_its_twin_and_the_correlation(self) -> None:
        x = noise(200, 3)
        x[:, 2] = -3 * x[:, 0] + 0.01 * x[:, 1]
        cleaning = clean(x)
        dropped = [item for item in cleaning.ledger if item.dropped]
        assert len(dropped) == 1
        assert dropped[0].dropped == "duplicate"
        assert {dropped[0].feature, dropped[0].detail.split()[1]} == {"family::c0", "family::c2"}
        correlation = abs(np.corrcoef(x[:, 0], x[:, 2])[0, 1])
        assert float(dropped[0].detail.split()[-1]) == pytest.approx(correlation, abs=1e-4)

    def test_the_more_informative_twin_stays(self) -> None:
        x = noise(500, 3)
        x[:, 1] = x[:, 0]
        x[::50, 1] *= 1.6  # the same with outliers
        assert np.corrcoef(x[:, 0], x[:, 1])[0, 1] > 0.9
        cleaning = clean(x, max_correlation=0.9)
        assert entry(cleaning, 1).dropped == "duplicate"
        assert entry(cleaning, 0).dropped is None

    def test_equal_twins_keep_the_first(self) -> None:
        x = noise(100, 4)
        doubled = np.concatenate([x, x], axis=1)
        assert list(clean(doubled).columns) == [0, 1, 2, 3]

    def test_no_kept_pair_is_near_and_each_duplicate_has_a_kept_twin(self) -> None:
        x = noise(300, 3) @ noise(3, 30, seed=1) + 0.1 * noise(300, 30, seed=2)
        cleaning = clean(x)
        correlation = np.abs(np.corrcoef(x.T))
        kept = cleaning.columns
        assert (correlation[np.ix_(kept, kept)] - np.eye(len(kept)) <= 0.99).all()
        dropped = [column for column in range(30) if column not in kept]
        assert dropped
        assert (correlation[np.ix_(dropped, kept)].max(axis=1) > 0.99).all()

    def test_threshold_of_one_keeps_near_duplicates(self) -> None:
        x = noise(100, 2)
        near = np.column_stack([x, x[:, 0] + 1e-3 * x[:, 1]])
        assert len(clean(near, max_correlation=1.0).columns) == 3

    @pytest.mark.parametrize(("x", "said"), [(np.zeros((20, 3)), "3 constant"), (np.ones((20, 2)), "2 constant")])
    def test_too_little_left_says_why(self, x: np.ndarray, said: str) -> None:
        with pytest.raises(DataError, match=rf"cleaning keeps 0 of {x.shape[1]} columns.*dropped: {said}"):
            clean(x)

    def test_one_column_is_too_few(self) -> None:
        with pytest.raises(DataError, match="cleaning keeps 1 of 1 columns, 2 are needed; use"):
            clean(noise(20, 1))


class TestValues:
    def test_missing_becomes_the_training_median(self) -> None:
        x = noise(101, 2)
        x[0, 0], x[1, 0], x[2, 1] = np.nan, np.inf, -np.inf
        cleaning = clean(x)
        assert cleaning.apply(x)[0, 0] == cleaning.apply(x)[1, 0] == np.median(x[2:, 0])
        assert [item.imputed for item in cleaning.ledger] == [2, 1]

    def test_clipped_to_the_training_percentiles_and_counted(self) -> None:
        x = noise(1000, 2)
        cleaning = clean(x)
        low, high = np.percentile(x, (0.5, 99.5), axis=0)
        np.testing.assert_allclose(cleaning.apply(x), np.clip(x, low, high))
        assert [item.clipped for item in cleaning.ledger] == list(((x < low) | (x > high)).sum(axis=0))
        np.testing.assert_allclose(cleaning.apply(np.array([[1e30, -1e30]]))[0], [high[0], low[1]])

    def test_state_survives(self) -> None:
        x = noise(100, 4)
        x[:, 2] = 1.0
        cleaning = clean(x)
        arrays, meta = cleaning.to_state()
        copy = Cleaning.from_state(arrays, json.loads(json.dumps(meta)))
        assert copy.ledger == cleaning.ledger
        assert copy.names == ("family::c0", "family::c1", "family::c3")
        np.testing.assert_array_equal(copy.apply(x), cleaning.apply(x))

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["normal", "huge", "tiny", "cauchy", "integer", "constant", "copy", "gaps", "offset"]),
            min_size=1,
            max_size=8,
        ),
        st.integers(0, 2**32 - 1),
    )
    def test_any_mixture_comes_out_finite(self, kinds: list[str], seed: int) -> None:
        rng = np.random.default_rng(seed)
        x = np.column_stack([rng.normal(size=(60, 2)), *(column(kind, rng) for kind in kinds)]).astype(np.float32)
        cleaning = clean(x.astype(np.float64))
        cleaned = cleaning.apply(x)
        assert np.isfinite(cleaned).all()
        assert (cleaned.std(axis=0) > 0).all()
        assert len(cleaning.ledger) == x.shape[1]


def column(kind: str, rng: np.random.Generator) -> np.ndarray:
    normal = rng.normal(size=60)
    return {
        "normal": normal,
        "huge": normal * 1e12,
        "tiny": normal * 1e-9,
        "cauchy": rng.standard_cauchy(60) * 1e15,
        "integer": rng.integers(-3, 3, 60).astype(float),
        "constant": np.full(60, 1e12 / 7),
        "copy": np.arange(60.0),
        "gaps": np.where(rng.random(60) < 0.5, np.nan, normal),
        "offset": 1e6 + normal,
    }[kind]


class TestInformativeness:
    def test_against_its_definition(self) -> None:
        x = np.random.default_rng(5).standard_t(3, size=(400, 3))
        for score, values in zip(informativeness(x), x.T, strict=True):
            counts = np.histogram(values, bins=64)[0]
            share = counts[counts > 0] / 400
            q1, q3 = np.percentile(values, [25, 75])
            outliers = np.mean((values < q1 - 1.5 * (q3 - q1)) | (values > q3 + 1.5 * (q3 - q1)))
            expected = -(share * np.log2(share)).sum() * (q3 - q1) / values.std() * (1 - outliers)
            assert score == pytest.approx(expected)

    def test_scale_and_shift_do_not_matter(self) -> None:
        x = noise(300, 2)
        np.testing.assert_allclose(informativeness(x * 1024 + 4096), informativeness(x), rtol=1e-2)
