from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.compression.characteristics import characterize
from spinlock_dist.config import PrepareConfig, SplitConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.data.load import load_table
from spinlock_dist.errors import ConfigError, DataError
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.seeding import derive_seed
from spinlock_dist.split import split_rows

NAMES = [f"{'initial' if column < 8 else 'summary'}::f{column}" for column in range(24)]


def values(rows: int = 200) -> np.ndarray:
    """Return features in four correlated groups, of scales from 1e-5 to 1e12, with gaps, a constant and a copy."""
    rng = np.random.default_rng(0)
    factors = np.repeat(rng.normal(size=(rows, 4)), 6, axis=1)
    x = (factors + 0.5 * rng.normal(size=(rows, 24))) * np.logspace(-5, 4, 24)
    x[:, 3] = 2.5
    x[:, 5] = x[:, 4] * 2
    x[:, 9] = 1e12 * (3 + rng.random(rows))
    x[:, 10] = rng.standard_cauchy(rows)
    x[::11, 12] = np.nan
    return x


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write(tmp_path / "table.npz", values())


def write(path: Path, x: np.ndarray, names: list[str] = NAMES) -> Path:
    np.savez(path, features=x, feature_names=names)
    return path


def run(dataset: Path, **settings_: Any) -> PreparedData:
    return prepare(PrepareConfig.model_validate({"dataset": str(dataset), **settings_}))


class TestPrepare:
    def test_shapes_and_ranges(self, dataset: Path) -> None:
        data = run(dataset)
        rows, columns = data.values.shape
        assert (rows, columns) == (200, len(data.feature_names))
        assert data.values.dtype == np.float32
        assert np.isfinite(data.values).all()
        assert np.abs(data.values).max() < 20
        assert len(data.families) == columns
        assert sorted(column for category in data.categories for column in category.columns) == list(range(columns))
        assert len(data.characteristics) == len(data.categories)

    def test_the_pipeline_gives_the_very_values(self, dataset: Path) -> None:
        data = run(dataset)
        np.testing.assert_array_equal(data.pipeline.transform(load_table(data.config)), data.values)

    @pytest.mark.parametrize("folds", [1, 3])
    def test_characteristics_are_of_the_raw_rows_that_are_fitted_on(self, dataset: Path, folds: int) -> None:
        data = run(dataset, split={"folds": folds})
        rows = data.split.train if folds == 1 else np.sort(np.concatenate([data.split.train, data.split.validation]))
        raw = data.pipeline.clean(load_table(data.config))[rows]
        for category, found in zip(data.categories, data.characteristics, strict=True):
            assert found == characterize(raw[:, category.columns], category.name)

    @pytest.mark.parametrize("folds", [1, 3])
    @pytest.mark.parametrize("normalization", ["standard", "robust", "quantile"])
    def test_rows_held_out_change_nothing_fitted(self, tmp_path: Path, normalization: str, folds: int) -> None:
        """Of one fold validation and test rows; of several, which all share what is fitted, test rows."""
        given: Any = {"normalization": normalization, "split": {"folds": folds}}
        data = run(write(tmp_path / "a.npz", values()), **given)
        x = values()
        held_out = data.split.test if folds > 1 else np.concatenate([data.split.validation, data.split.test])
        x[held_out] = np.random.default_rng(9).standard_cauchy((len(held_out), x.shape[1])) * 1e20
        x[held_out[0]] = np.inf
        changed = run(write(tmp_path / "b.npz", x), **given)
        assert changed.pipeline.cleaning.ledger == data.pipeline.cleaning.ledger
        assert changed.categories == data.categories
        assert changed.characteristics == data.characteristics
        np.testing.assert_array_equal(changed.values[data.split.train], data.values[data.split.train])
        for name, array in data.pipeline.to_state()[0].items():
            np.testing.assert_array_equal(changed.pipeline.to_state()[0][name], array)
        assert np.isfinite(changed.values).all()

    def test_same_in_another_process(self, dataset: Path) -> None:
        code = (
            "from spinlock_dist.config import PrepareConfig; from spinlock_dist.prepare import prepare; "
            f"print(prepare(PrepareConfig(dataset={str(dataset)!r})).fingerprint)"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert printed.strip() == run(dataset).fingerprint

    def test_pickles_close_to_the_size_of_its_arrays(self, dataset: Path) -> None:
        data = run(dataset)
        pickled = pickle.dumps(data)
        np.testing.assert_array_equal(pickle.loads(pickled).values, data.values)
        assert len(pickled) < data.values.nbytes + 20_000

    def test_copy_of_every_column_is_dropped(self, tmp_path: Path) -> None:
        once = run(write(tmp_path / "a.npz", values()))
        doubled = np.concatenate([values(), values()], axis=1)
        twice = run(write(tmp_path / "b.npz", doubled, NAMES + [f"{name}_copy" for name in NAMES]))
        assert set(twice.feature_names) == set(once.feature_names)

    def test_integers(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).integers(-5, 5, size=(100, 9))
        assert np.isfinite(run(write(tmp_path / "a.npz", x, NAMES[:9])).values).all()

    def test_all_zeros(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.npz: cleaning keeps 0 of 4 columns.*4 constant"):
            run(write(tmp_path / "a.npz", np.zeros((50, 4)), NAMES[:4]))

    def test_ten_rows_are_enough(self, tmp_path: Path) -> None:
        data = run(write(tmp_path / "a.npz", values()[:10]))
        assert min(len(data.split.part(part)) for part in ("train", "validation", "test")) >= 1

    def test_mapping_file(self, dataset: Path, tmp_path: Path) -> None:
        halves = {"first": NAMES[:12], "second": NAMES[12:]}
        (tmp_path / "map.json").write_text(json.dumps(halves))
        data = run(dataset, categories={"mapping": str(tmp_path / "map.json")})
        assert [category.name for category in data.categories] == ["first", "second"]
        assert {data.feature_names[column] for column in data.categories[0].columns} < set(NAMES[:12])

    def test_mapping_with_a_wrong_name(self, dataset: Path, tmp_path: Path) -> None:
        (tmp_path / "map.json").write_text(json.dumps({"all": [*NAMES, "summary::absent"]}))
        with pytest.raises(ConfigError, match="unknown feature 'summary::absent'"):
            run(dataset, categories={"mapping": str(tmp_path / "map.json")})

    def test_without_a_dataset_operators_are_simulated(self) -> None:
        simulator = {"samples": 40, "grid": 8, "steps": 8, "realizations": 1}
        data = prepare(PrepareConfig.model_validate({"simulator": simulator}))
        assert set(data.families) == {"initial", "summary", "temporal"}
        assert len(data.values) == 40
        assert not any("::feature_" in name for name in data.feature_names)

    def test_spinlock_file_with_its_usual_encoders(self, spinlock_file: Path) -> None:
        families = {"summary": {"encoder": "mlp"}, "temporal": {"encoder": "temporal_cnn"}}
        data = run(spinlock_file, families=families)
        assert set(data.families) == {"summary", "temporal"}
        assert np.isfinite(data.values).all()


class TestSplit:
    @settings(max_examples=60, deadline=None)
    @given(rows=st.integers(12, 3000), seed=st.integers(0, 2**31), folds=st.integers(1, 5))
    def test_partition_with_rounded_shares(self, rows: int, seed: int, folds: int) -> None:
        config = SplitConfig(seed=seed, folds=folds)
        split = split_rows(rows, config)
        parts = [split.train, split.validation, split.test]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(rows))
        shares = (0.7 - config.validation_share, config.validation_share, 0.3)
        for part, share in zip(parts, shares, strict=True):
            assert len(part) >= 1
            assert abs(len(part) - share * rows) <= 1.5 + 1e-9
            assert (np.diff(part) > 0).all()

    @settings(max_examples=60, deadline=None)
    @given(rows=st.integers(12, 500), seed=st.integers(0, 50), folds=st.integers(2, 5))
    def test_each_steering_row_validates_in_one_fold_and_trains_in_the_others(
        self, rows: int, seed: int, folds: int
    ) -> None:
        split = split_rows(rows, SplitConfig(seed=seed, folds=folds))
        each = [split.fold(number) for number in range(folds)]
        steering = np.setdiff1d(np.arange(rows), split.test)
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.validation for fold in each])), steering)
        for fold in each:
            np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.validation])), steering)
            np.testing.assert_array_equal(fold.test, split.test)
        np.testing.assert_array_equal(each[0].train, split.train)
        assert np.ptp([len(fold.validation) for fold in each]) <= 1

    def test_three_shares_as_earlier_versions_wrote_them(self) -> None:
        earlier = SplitConfig.model_validate({"seed": 3, "train": 0.6, "validation": 0.3, "test": 0.1})
        assert earlier == SplitConfig(seed=3, folds=1, validation=0.3, test=0.1)
        split = split_rows(100, earlier)
        assert [len(split.train), len(split.validation), len(split.test)] == [60, 30, 10]
        order = np.random.default_rng(derive_seed(3, "split")).permutation(100)
        np.testing.assert_array_equal(split.validation, np.sort(order[60:90]))

    def test_seed_decides(self) -> None:
        one, same, other = (split_rows(100, SplitConfig(seed=seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one.train, same.train)
        assert not np.array_equal(one.train, other.train)

    def test_nothing_left_to_train_on(self) -> None:
        with pytest.raises(DataError, match="10 rows are too few for the shares"):
            split_rows(10, SplitConfig(folds=1, validation=0.49, test=0.49))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"folds": 3, "validation": 0.2}, "with 3 folds it is one of them"),
            ({"folds": 1, "validation": 0.5, "test": 0.5}, "must be below 1"),
            ({"train": 0.5, "validation": 0.2, "test": 0.2}, "must be 1, is 0.9"),
        ],
    )
    def test_shares_that_contradict_each_other(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SplitConfig.model_validate(given)


class TestAgainOnAnotherSplit:
    def test_features_and_categories_stay_what_is_fitted_does_not(self, dataset: Path, tmp_path: Path) -> None:
        first = run(dataset)
        (tmp_path / "found.json").write_text(json.dumps(mapping_of(first)))
        again = run(
            dataset, split={"seed": 5}, categories={"mapping": str(tmp_path / "found.json"), "only_mapped": True}
        )
        assert again.feature_names == first.feature_names
        assert again.categories == first.categories
        assert again.fingerprint != first.fingerprint
        fitted = again.values[np.concatenate([again.split.train, again.split.validation])]
        np.testing.assert_allclose(fitted.mean(axis=0, dtype=np.float64), 0, atol=1e-5)

    def test_what_cleaning_chose_is_not_chosen_again(self, dataset: Path, tmp_path: Path) -> None:
        """f4 and its double f5, and one feature alone: of two copies both stay if both are mapped."""
        (tmp_path / "given.json").write_text(json.dumps({"a": [NAMES[4], NAMES[5]], "b": [NAMES[20]]}))
        data = run(dataset, categories={"mapping": str(tmp_path / "given.json"), "only_mapped": True})
        assert data.feature_names == (NAMES[4], NAMES[5], NAMES[20])
        assert [len(category) for category in data.categories] == [2, 1]
        reasons = {entry.feature: entry.dropped for entry in data.pipeline.cleaning.ledger}
        assert reasons[NAMES[21]] == "unmapped"

    def test_features_that_do_not_vary_are_lost_and_empty_categories_with_them(
        self, dataset: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "given.json").write_text(json.dumps({"flat": [NAMES[3]], "b": NAMES[20:24]}))
        data = run(dataset, categories={"mapping": str(tmp_path / "given.json"), "only_mapped": True})
        assert [category.name for category in data.categories] == ["b"]
        assert {entry.feature: entry.dropped for entry in data.pipeline.cleaning.ledger}[NAMES[3]] == "constant"

    def test_a_mapping_is_needed(self) -> None:
        with pytest.raises(ConfigError, match="only_mapped needs a mapping"):
            parse_config(PrepareConfig, {"categories": {"only_mapped": True}}, "test")


def mapping_of(data: PreparedData) -> dict[str, list[str]]:
    return {category.name: [data.feature_names[column] for column in category.columns] for category in data.categories}


class TestFingerprint:
    def test_content_counts_and_not_the_path(self, dataset: Path, tmp_path: Path) -> None:
        renamed = write(tmp_path / "elsewhere.npz", values())
        assert run(renamed).fingerprint == run(dataset).fingerprint

    @pytest.mark.parametrize(
        "settings_",
        [
            {"split": {"seed": 1}},
            {"normalization": "robust"},
            {"categories": {"count": 2}},
            {"cleaning": {"clip_percentiles": [1, 99]}},
            {"max_samples": 150},
            {"families": {"summary": {"encoder": "identity"}}},
        ],
        ids=lambda settings_: next(iter(settings_)),
    )
    def test_settings_count(self, dataset: Path, settings_: dict[str, Any]) -> None:
        assert run(dataset, **settings_).fingerprint != run(dataset).fingerprint

    def test_one_value_counts(self, dataset: Path, tmp_path: Path) -> None:
        x = values()
        x[7, 20] *= 1.001
        assert run(write(tmp_path / "b.npz", x)).fingerprint != run(dataset).fingerprint

    def test_names_count(self, dataset: Path, tmp_path: Path) -> None:
        renamed = write(tmp_path / "b.npz", values(), [*NAMES[:-1], "summary::other"])
        assert run(renamed).fingerprint != run(dataset).fingerprint
