from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.column_names import aggregated_names, per_step_names, registered_names
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError

ROWS = 12


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def load(path: Path, **settings: object) -> FeatureTable:
    return load_table(PrepareConfig.model_validate({"dataset": str(path), **settings}))


class TestPaths:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"absent\.h5: no such dataset"):
            load(tmp_path / "absent.h5")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is a folder"):
            load(tmp_path)

    def test_unknown_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "table.xlsx").touch()
        with pytest.raises(DataError, match=r"unknown dataset format '.xlsx'; known: .h5"):
            load(tmp_path / "table.xlsx")


class TestHDF5:
    def test_not_hdf5(self, tmp_path: Path) -> None:
        (tmp_path / "text.h5").write_text("hello")
        with pytest.raises(DataError, match="not an HDF5 file"):
            load(tmp_path / "text.h5")

    def test_without_features_says_what_is_there(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group("inputs")
            file.create_group("outputs")
        with pytest.raises(DataError, match="no /features in this HDF5 file; it has inputs, outputs"):
            load(tmp_path / "a.h5")

    def test_features_group_without_arrays(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group("features/summary/aggregated/metadata")
        with pytest.raises(DataError, match=r"/features holds no feature array .* it has summary"):
            load(tmp_path / "a.h5")

    def test_single_dataset_with_byte_string_names(self, tmp_path: Path) -> None:
        values = numbers(ROWS, 3)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features"] = values
            file["features"].attrs["feature_names"] = np.array([b"energy", "übergang".encode(), b"slope"])
        table = load(tmp_path / "a.h5")
        assert table.names == {"features": ("energy", "übergang", "slope")}
        np.testing.assert_array_equal(table.columns["features"], values)

    def test_single_dataset_without_names(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features"] = numbers(ROWS, 2)
        assert load(tmp_path / "a.h5").names == {"features": ("feature_0", "feature_1")}

    def test_architecture_only_on_demand(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features/architecture/aggregated/features"] = numbers(ROWS, 2)
            file["features/temporal/features"] = numbers(ROWS, 4, 3)
            file["features/initial/aggregated/features"] = numbers(ROWS, 2)
        assert list(load(tmp_path / "a.h5").columns) == ["initial", "temporal"]
        chosen = load(tmp_path / "a.h5", families={"architecture": {"encoder": "identity"}})
        assert list(chosen.columns) == ["architecture"]

    def test_families_of_different_lengths(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features/initial/features"] = numbers(ROWS, 2)
            file["features/summary/features"] = numbers(ROWS + 1, 2)
        with pytest.raises(DataError, match="different numbers of rows: initial 12, summary 13"):
            load(tmp_path / "a.h5")

    @pytest.mark.parametrize("shape", [(ROWS, 0), (ROWS, 0, 3), (ROWS, 5, 0)])
    def test_no_columns(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features/summary/features"] = np.zeros(shape, np.float32)
        with pytest.raises(DataError, match="family 'summary' has no columns"):
            load(tmp_path / "a.h5")

    def test_text_instead_of_numbers(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features/summary/features"] = np.array([[b"a"] * 2] * ROWS)
        with pytest.raises(DataError, match="must hold numbers"):
            load(tmp_path / "a.h5")

    def test_unreadable_registry_costs_only_the_names(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features/summary/features"] = numbers(ROWS, 2)
            file["features/summary"].attrs["feature_registry"] = "{not json"
        assert load(tmp_path / "a.h5").names["summary"] == ("feature_0", "feature_1")

    def test_values_beyond_float32_are_missing(self, tmp_path: Path) -> None:
        values = numbers(ROWS, 2).astype(np.float64)
        values[0, 0] = 1e300
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features"] = values
        assert not np.isfinite(load(tmp_path / "a.h5").columns["features"][0, 0])


class TestSpinlockFile:
    """The names given to the columns of a file that Spinlock wrote must say what the columns hold."""

    def test_families_and_shapes(self, spinlock_file: Path) -> None:
        table = load(spinlock_file)
        assert {family: values.shape for family, values in table.columns.items()} == {
            "summary": (32, 330),
            "temporal": (32, 64, 63),
        }
        assert all(not name.startswith("feature_") for names in table.names.values() for name in names)

    def test_aggregations_are_those_of_the_trajectories(self, spinlock_file: Path) -> None:
        table = load(spinlock_file)
        with h5py.File(spinlock_file) as file:
            trajectories = file["features/summary/per_trajectory/features"][()].astype(np.float64)
        drift = table.names["summary"].index("L2_mean_drift_raw.std")
        mean = table.names["summary"].index("L2_mean_drift_raw.mean")
        np.testing.assert_allclose(
            table.columns["summary"][:, drift], trajectories[..., mean].std(1, ddof=1), rtol=1e-4
        )
        np.testing.assert_allclose(table.columns["summary"][:, mean], trajectories[..., mean].mean(1), rtol=1e-4)

    def test_bounded_features_are_bounded(self, spinlock_file: Path) -> None:
        table = load(spinlock_file)
        named = dict(zip(table.names["summary"], table.columns["summary"].T, strict=True))
        monotonicity = [values for name, values in named.items() if "monotonicity" in name and name.endswith(".mean")]
        assert len(monotonicity) == 15
        assert np.abs(monotonicity).max() <= 1 + 1e-6
        assert (named["rolling_w20_max.mean"] >= named["rolling_w20_mean.mean"]).all()
        assert (named["rolling_w20_mean.mean"] >= named["rolling_w20_min.mean"]).all()

    def test_temporal_identities(self, spinlock_file: Path) -> None:
        table = load(spinlock_file)
        channel = {name: table.columns["temporal"][..., place] for place, name in enumerate(table.names["temporal"])}
        spread = channel["spatial_max"] - channel["spatial_min"]
        np.testing.assert_allclose(channel["spatial_range"], spread, rtol=1e-3)
        shares = channel["low_freq_ratio"] + channel["mid_freq_ratio"] + channel["high_freq_ratio"]
        np.testing.assert_allclose(shares, 1.0, rtol=1e-4)
        assert (channel["cross_channel_eigen_top_1"] >= channel["cross_channel_eigen_top_2"]).all()


class TestRegistry:
    def test_names_by_column_number(self) -> None:
        assert registered_names(3, {"g": {"b": 2, "a": 0}, "h": {"c": 1}}) == ("a", "c", "b")

    def test_name_in_two_groups_is_qualified(self) -> None:
        assert registered_names(3, {"g": {"mean": 0, "a": 1}, "h": {"mean": 2}}) == ("g.mean", "a", "h.mean")

    @pytest.mark.parametrize("registry", [{}, {"g": {"a": 0}}, {"g": {"a": 0, "b": 0}}, {"g": {"a": 1, "b": 2}}])
    def test_inexact_cover_names_nothing(self, registry: dict[str, dict[str, int]]) -> None:
        assert registered_names(2, registry) is None

    def test_partial_arrays_of_spinlock(self) -> None:
        registry = {"spatial": {"x": 0}, "temporal": {"y": 1}, "causality": {"z": 2}}
        assert aggregated_names(4, registry, ["mean", "cv"]) == ("y.mean", "z.mean", "y.cv", "z.cv")
        assert aggregated_names(5, registry, ["mean", "cv"]) is None
        assert per_step_names(1, registry) == ("x",)
        assert per_step_names(2, registry) is None


class TestFlatFiles:
    def test_plain_columns_are_the_family_table(self, tmp_path: Path) -> None:
        pd.DataFrame({"a": np.arange(ROWS), "b": np.arange(ROWS) % 2 == 0}).to_csv(tmp_path / "t.csv", index=False)
        table = load(tmp_path / "t.csv")
        assert table.names == {"table": ("a", "b")}
        np.testing.assert_array_equal(table.columns["table"][:3], [[0, 1], [1, 0], [2, 1]])

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_columns_that_are_not_numeric_are_named(self, tmp_path: Path, suffix: str) -> None:
        frame = pd.DataFrame({"a": range(ROWS), "kind": ["wave"] * ROWS, "when": pd.Timestamp(2024, 1, 1)})
        path = tmp_path / f"t.{suffix}"
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
        with pytest.raises(DataError, match="not numeric: kind, when; remove or encode them"):
            load(path)

    def test_csv_with_one_name_twice(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("a,b,a\n" + "1,2,3\n" * ROWS)
        with pytest.raises(DataError, match="more than one column is named 'a'"):
            load(tmp_path / "t.csv")

    def test_csv_without_names(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("1.5,2\n" * ROWS)
        with pytest.raises(DataError, match="must name the columns"):
            load(tmp_path / "t.csv")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (",a,b\n" + "0,1,2\n" * ROWS, r"column 1 has no name; name it, or leave it out if it numbers the rows"),
            ("a,b\n" + "1,2,3\n" * ROWS, "line 2: 3 values for the 2 columns that the first line names"),
            ("a,b\n" + "1,2,\n" * ROWS, "line 2: 3 values for the 2 columns that the first line names"),
            ("a,b\n" + "1,2\n" * ROWS + "1\n" + "1,2\n", "line 14: 1 values for the 2 columns"),
            ("a,b\n" + "1,2\n" * ROWS + "1", "line 14: 1 values for the 2 columns .*it may be cut off"),
            ("a,b\n" + "1,2\n" * ROWS + "1,", "line 14: the last value is empty.* no line end follows"),
            (
                "a,b\n" + "1,25\n" * ROWS + "1,2",
                "line 14: the last value .*fewer digits than every other of its column",
            ),
            ("a,b\n" + "1,2\n" * ROWS + '1,"2\n', "line 14: the last value .* a quote that is not closed"),
            ("a,b\n" + "1,12.5\n1,2.25\n" * ROWS + "1,13", "line 26: the last value .*fewer digits"),
            ("a,b\n" + "1,2\n\n" * ROWS + "x,2\n", r"not numeric: a; remove or encode them \(line 26: 'x'\)"),
            ("Unnamed: 0,a\n" + "1,2\n" * ROWS, "column 'Unnamed: 0' numbers the rows"),
            ("id,a\n" + "".join(f"{row},2\n" for row in range(ROWS)), "column 'id' numbers the rows"),
            ("a;b\n" + "1;2\n" * ROWS, "commas must separate the columns; the first line is 'a;b'"),
            ("a,b\n" + "1,2\n" * ROWS + "1,2,3,4\n", "line 14: 4 values for the 2 columns"),
        ],
    )
    def test_csv_that_would_be_misread(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(DataError, match=said):
            load(tmp_path / "t.csv")

    @pytest.mark.parametrize(
        "text",
        ["a,b\n" + "1,2\n" * ROWS + "3,4", "a,b\n" + "1,2\n1,2.5\n" * ROWS + "3,4", "a\r\n" + "2\r\n" * ROWS + "4"],
    )
    def test_csv_whose_last_line_has_no_end(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "t.csv").write_text(text)
        values = load(tmp_path / "t.csv").columns["table"]
        assert len(values) == text.count("\n")
        assert values[-1, -1] == 4

    def test_csv_with_integers_beyond_64_bits(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("a,b\n" + f"{10**30},1\n" * ROWS)
        np.testing.assert_allclose(load(tmp_path / "t.csv").columns["table"][0], [1e30, 1], rtol=1e-6)

    def test_csv_with_a_word_far_down_is_refused_without_a_warning(
        self, tmp_path: Path, recwarn: pytest.WarningsRecorder
    ) -> None:
        (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 300_000 + "1,broken\n")
        with pytest.raises(DataError, match="not numeric: b; remove or encode them"):
            load(tmp_path / "t.csv")
        assert not recwarn.list

    def test_csv_with_names_alone(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("a,b\n")
        with pytest.raises(DataError, match="column names but no rows"):
            load(tmp_path / "t.csv")

    def test_csv_gaps_are_missing_values(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("a,b\n,1\n" + "2,1\n" * ROWS)
        assert np.isnan(load(tmp_path / "t.csv").columns["table"][0, 0])

    def test_npz_without_features(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", x=numbers(ROWS, 2))
        with pytest.raises(DataError, match="no array 'features'; it has x"):
            load(tmp_path / "t.npz")

    def test_npz_names_of_another_number(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", features=numbers(ROWS, 2), feature_names=["a"])
        with pytest.raises(DataError, match="1 feature_names for 2 columns"):
            load(tmp_path / "t.npz")

    @pytest.mark.parametrize("features", [np.array(1.0), numbers(ROWS, 1)[:, 0], np.full((ROWS, 2), "a")])
    def test_npz_with_features_of_another_shape_or_kind(self, tmp_path: Path, features: np.ndarray) -> None:
        np.savez(tmp_path / "t.npz", features=features)
        with pytest.raises(DataError, match=r"'features' must be numbers \[N, D\]"):
            load(tmp_path / "t.npz")

    def test_npz_with_one_name_for_all(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", features=numbers(ROWS, 2), feature_names="a")
        with pytest.raises(DataError, match="1 feature_names for 2 columns"):
            load(tmp_path / "t.npz")

    def test_npz_with_one_name_twice(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", features=numbers(ROWS, 2), feature_names=["a", "a"])
        with pytest.raises(DataError, match="more than one column is named 'a'"):
            load(tmp_path / "t.npz")

    def test_npz_that_would_execute_code_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", features=np.array([[object()]], dtype=object))
        with pytest.raises(DataError, match=r"not a readable \.npz of plain arrays"):
            load(tmp_path / "t.npz")

    def test_hdf5_registry_with_one_name_twice_in_one_group(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features"] = numbers(ROWS, 2)
            file["features"].attrs["feature_names"] = ["a", "a"]
            file["features"].attrs["feature_registry"] = json.dumps({})
        with pytest.raises(DataError, match="more than one column named 'a'"):
            load(tmp_path / "a.h5")
