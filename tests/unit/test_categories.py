from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.categories.category import Category
from spinlock_dist.categories.discovery import correlation_distance, discover_categories, merge_small_clusters
from spinlock_dist.categories.mapping import read_mapping
from spinlock_dist.config import CategoriesConfig
from spinlock_dist.errors import ConfigError


def blocks(sizes: list[int], rows: int = 400, noise: float = 0.4, seed: int = 0) -> np.ndarray:
    """Return `[rows, sum(sizes)]` where the columns of a block share a hidden factor, up to sign."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.normal(size=(rows, 1)) * rng.choice([-1, 1], size=size) + noise * rng.normal(size=(rows, size))
        for size in sizes
    ]
    return np.concatenate(columns, axis=1)


def discover(x: np.ndarray, **settings_: Any) -> tuple[Category, ...]:
    return discover_categories(x, CategoriesConfig.model_validate(settings_))


class TestDiscovery:
    def test_finds_the_blocks(self) -> None:
        categories = discover(blocks([5, 3, 8, 4]))
        assert [category.name for category in categories] == [f"cluster_{rank}" for rank in range(1, 5)]
        assert [len(category) for category in categories] == [5, 3, 8, 4]
        assert [column for category in categories for column in category.columns] == list(range(20))

    def test_given_count(self) -> None:
        assert len(discover(blocks([6, 6, 6]), count=2)) == 2
        assert len(discover(blocks([6, 6, 6]), count=1)) == 1

    def test_count_above_the_columns(self) -> None:
        with pytest.raises(ConfigError, match=r"categories.count: 9 categories asked for, the data has 6 columns"):
            discover(blocks([3, 3]), count=9)

    def test_max_count_holds(self) -> None:
        assert len(discover(blocks([4] * 6), max_count=3)) <= 3
        assert len(discover(blocks([4] * 6), max_count=1)) == 1

    @pytest.mark.parametrize("columns", [2, 3, 5])
    def test_few_columns_are_one_category(self, columns: int) -> None:
        assert discover(blocks([1] * columns)) == (Category("cluster_1", tuple(range(columns))),)

    @settings(max_examples=20, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
        min_features=st.integers(1, 5),
        seed=st.integers(0, 1000),
    )
    def test_always_a_partition_into_large_enough_parts(self, sizes: list[int], min_features: int, seed: int) -> None:
        x = blocks(sizes, rows=60, noise=1.0, seed=seed)
        categories = discover(x, min_features=min_features)
        assert sorted(column for category in categories for column in category.columns) == list(range(x.shape[1]))
        assert len(categories) == 1 or min(map(len, categories)) >= min_features
        assert all(list(category.columns) == sorted(category.columns) for category in categories)
        firsts = [category.columns[0] for category in categories]
        assert firsts == sorted(firsts)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 1000), data=st.data())
    def test_permuted_columns_permute_the_answer(self, seed: int, data: st.DataObject) -> None:
        x = blocks([2, 5, 4, 3, 1], rows=80, noise=0.8, seed=seed)
        order = data.draw(st.permutations(range(x.shape[1])))
        original = {frozenset(category.columns) for category in discover(x)}
        permuted = {frozenset(order[column] for column in category.columns) for category in discover(x[:, order])}
        assert permuted == original

    def test_scale_and_sign_do_not_matter(self) -> None:
        x = blocks([4, 5])
        assert discover(x * np.where(np.arange(9) % 2, -1e-6, 1e6)) == discover(x)


class TestDistance:
    def test_against_numpy(self) -> None:
        x = blocks([3, 4], noise=1.0)
        np.testing.assert_allclose(correlation_distance(x), 1 - np.abs(np.corrcoef(x.T)), atol=1e-12)

    def test_constant_column_is_far_from_all(self) -> None:
        x = blocks([3])
        x[:, 1] = 2.0
        distance = correlation_distance(x)
        assert distance[0, 1] == distance[1, 2] == 1.0
        assert distance[1, 1] == 0.0


class TestMerging:
    def test_small_cluster_joins_the_nearest(self) -> None:
        x = blocks([4, 4])
        x = np.column_stack([x, x[:, 5] + np.random.default_rng(1).normal(size=len(x))])
        merged = merge_small_clusters(correlation_distance(x), np.array([0] * 4 + [1] * 4 + [2]), min_features=2)
        assert [set(np.flatnonzero(merged == label)) for label in (merged[0], merged[4])] == [
            set(range(4)),
            set(range(4, 9)),
        ]

    def test_large_clusters_stay(self) -> None:
        labels = np.array([0, 0, 1, 1])
        np.testing.assert_array_equal(merge_small_clusters(correlation_distance(blocks([4])), labels, 2), labels)


class TestMapping:
    NAMES = ("summary::energy", "summary::drift", "temporal::slope.mean")

    def write(self, folder: Path, content: object) -> str:
        (folder / "map.json").write_text(json.dumps(content))
        return str(folder / "map.json")

    def refuse(self, folder: Path, content: object, said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            read_mapping(self.write(folder, content), self.NAMES, {"summary::flat"})

    def test_order_of_the_file_and_of_the_columns(self, tmp_path: Path) -> None:
        (tmp_path / "map.yaml").write_text(
            "late: [temporal::slope.mean]\nearly:\n  - summary::drift\n  - summary::energy\n  - summary::flat\n"
        )
        categories = read_mapping(str(tmp_path / "map.yaml"), self.NAMES, {"summary::flat"})
        assert categories == (Category("late", (2,)), Category("early", (0, 1)))

    def test_unknown_feature_names_the_nearest(self, tmp_path: Path) -> None:
        content = {"a": ["summary::enrgy", "summary::drift", "temporal::slope.mean"]}
        self.refuse(tmp_path, content, r"unknown feature 'summary::enrgy'; did you mean 'summary::energy'\?")

    def test_feature_named_twice(self, tmp_path: Path) -> None:
        content = {"a": list(self.NAMES), "b": ["summary::drift"]}
        self.refuse(tmp_path, content, "feature 'summary::drift' is named 2 times")

    def test_feature_left_out(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, {"a": ["summary::energy"]}, "no category has summary::drift, temporal::slope.mean; put")

    def test_category_of_dropped_features_alone(self, tmp_path: Path) -> None:
        content = {"a": list(self.NAMES), "b": ["summary::flat"]}
        self.refuse(tmp_path, content, "category 'b' has no feature that cleaning kept")

    @pytest.mark.parametrize("content", [[], {}, {"a": "summary::energy"}, {"a": [1]}, {"a": []}])
    def test_not_a_mapping_of_lists(self, tmp_path: Path, content: object) -> None:
        self.refuse(tmp_path, content, "expected a mapping|must be a list of feature names")

    def test_missing_file(self) -> None:
        with pytest.raises(ConfigError, match="no such file"):
            read_mapping("absent.yaml", self.NAMES, ())
