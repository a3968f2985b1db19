"""One contract for every dataset format: what `load_table` returns and what it refuses."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.load import MIN_ROWS, load_batches, load_table
from spinlock_dist.errors import DataError
from tests.fuzz import bounded, inputs

Writer = Callable[[Path, np.ndarray, list[str]], Path]

NAMES = ["initial::mean", "initial::slope", "summary::energy", "summary::drift", "summary::entropy"]


def write_hdf5(folder: Path, values: np.ndarray, names: list[str]) -> Path:
    path = folder / "table.h5"
    with h5py.File(path, "w") as file:
        for family in dict.fromkeys(name.split("::")[0] for name in names):
            columns = [index for index, name in enumerate(names) if name.startswith(f"{family}::")]
            group = file.create_group(f"features/{family}")
            group["aggregated/features"] = values[:, columns]
            registry = {"group": {names[column].split("::")[1]: place for place, column in enumerate(columns)}}
            group.attrs["feature_registry"] = json.dumps(registry)
    return path


def write_parquet(folder: Path, values: np.ndarray, names: list[str]) -> Path:
    pd.DataFrame(values, columns=names).to_parquet(folder / "table.parquet")
    return folder / "table.parquet"


def write_csv(folder: Path, values: np.ndarray, names: list[str]) -> Path:
    pd.DataFrame(values, columns=names).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def write_npz(folder: Path, values: np.ndarray, names: list[str]) -> Path:
    np.savez(folder / "table.npz", features=values, feature_names=names)
    return folder / "table.npz"


@pytest.fixture(params=[write_hdf5, write_parquet, write_csv, write_npz], ids=["hdf5", "parquet", "csv", "npz"])
def write(request: pytest.FixtureRequest) -> Writer:
    writer: Writer = request.param
    return writer


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, len(NAMES))).astype(np.float32)


class TestReader:
    def test_values_and_names_survive(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        table = load_table(PrepareConfig(dataset=str(write(tmp_path, values, NAMES))))
        assert table.names == {"initial": ("mean", "slope"), "summary": ("energy", "drift", "entropy")}
        np.testing.assert_array_equal(table.columns["initial"], values[:, :2])
        np.testing.assert_array_equal(table.columns["summary"], values[:, 2:])
        assert all(array.dtype == np.float32 for array in table.columns.values())

    @pytest.mark.parametrize("size", [1, 5, 12, 100])
    def test_read_in_batches_it_is_the_same_table(
        self, write: Writer, values: np.ndarray, tmp_path: Path, size: int
    ) -> None:
        values[3, 1] = np.nan
        config = PrepareConfig(dataset=str(write(tmp_path, values, NAMES)), max_samples=11)
        whole, batches = load_table(config), load_batches(config, size)
        tables = list(batches.tables)
        assert batches.rows in (11, None)
        assert [len(table) for table in tables] == [min(size, 11 - start) for start in range(0, 11, size)]
        assert all(table.names == whole.names for table in tables)
        for family, wanted in whole.columns.items():
            np.testing.assert_array_equal(np.concatenate([table.columns[family] for table in tables]), wanted)

    def test_damage_is_met_in_batches_too(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        path = write(tmp_path, np.tile(values, (50, 1)), NAMES)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\xff,")
        with pytest.raises(DataError, match=r"damaged or truncated|not a readable|values for the"):
            list(load_batches(PrepareConfig(dataset=str(path)), 64).tables)

    def test_only_the_first_rows(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        table = load_table(PrepareConfig(dataset=str(write(tmp_path, values, NAMES)), max_samples=10))
        assert len(table) == 10
        np.testing.assert_array_equal(table.columns["initial"], values[:10, :2])

    def test_only_the_families_asked_for(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        config = PrepareConfig(dataset=str(write(tmp_path, values, NAMES)), families={"summary": {"encoder": "mlp"}})
        assert list(load_table(config).columns) == ["summary"]

    def test_absent_family_names_the_nearest(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        config = PrepareConfig(dataset=str(write(tmp_path, values, NAMES)), families={"sumary": {"encoder": "mlp"}})
        with pytest.raises(DataError, match=r"no family 'sumary'; did you mean 'summary'\?"):
            load_table(config)

    def test_column_without_values_is_named(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        values[:, 3] = np.nan
        values[0, 3] = np.inf
        with pytest.raises(DataError, match="no finite value in column summary::drift; remove it"):
            load_table(PrepareConfig(dataset=str(write(tmp_path, values, NAMES))))

    def test_missing_and_infinite_values_are_accepted(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        values[0, 0], values[1, 0] = np.nan, -np.inf
        column = load_table(PrepareConfig(dataset=str(write(tmp_path, values, NAMES)))).columns["initial"][:, 0]
        assert np.isfinite(column).sum() == len(values) - 2

    @pytest.mark.parametrize(("rows", "said"), [(1, ": 1 row; at least 10"), (9, ": 9 rows; at least 10")])
    def test_too_few_rows(self, write: Writer, values: np.ndarray, tmp_path: Path, rows: int, said: str) -> None:
        with pytest.raises(DataError, match=said):
            load_table(PrepareConfig(dataset=str(write(tmp_path, values[:rows], NAMES))))

    def test_damaged_file(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        path = write(tmp_path, np.tile(values, (50, 1)), NAMES)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if path.suffix != ".csv" else b'a,b\n"\xff')
        with pytest.raises(DataError, match=r"damaged or truncated|not a readable") as error:
            load_table(PrepareConfig(dataset=str(path)))
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("seed", range(5))
    def test_flipped_bytes_are_read_or_refused(
        self, write: Writer, values: np.ndarray, tmp_path: Path, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        path = write(tmp_path, values, NAMES)
        sound, refusals = path.read_bytes(), []
        for _ in range(20):
            damaged = bytearray(sound)
            for place in rng.integers(0, len(sound), rng.integers(1, 30)):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                load_table(PrepareConfig(dataset=str(path)))
            except DataError as error:
                refusals.append(str(error))
        assert refusals and all(said.startswith(f"{path}: ") and "\n" not in said for said in refusals)

    def test_empty_file(self, write: Writer, values: np.ndarray, tmp_path: Path) -> None:
        path = write(tmp_path, values, NAMES)
        path.write_bytes(b"")
        with pytest.raises(DataError, match=r"not an HDF5 file|not a readable|the file is empty"):
            load_table(PrepareConfig(dataset=str(path)))


# ---------------------------------------------------------------- any damage

edits = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["flip", "cut", "drop", "repeat"]), st.binary(max_size=8)))


def damage(content: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    """Return `content` with some bytes overwritten, cut off after, taken out or repeated."""
    for where, how, by in changes:
        at = int(where * len(content))
        after = at + len(by)
        content = {
            "flip": content[:at] + by + content[after:],
            "cut": content[: max(at, 1)],
            "drop": content[:at] + content[after:],
            "repeat": content[:after] + content[at:],
        }[how]
    return content


@settings(max_examples=inputs(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits.filter(bool))
@bounded
def test_any_damage_is_read_or_refused(tmp_path: Path, write: Writer, values: np.ndarray, changes) -> None:
    whole = tmp_path / "whole"
    whole.mkdir(exist_ok=True)
    path = write(whole, values, NAMES)
    damaged = tmp_path / path.name
    damaged.write_bytes(damage(path.read_bytes(), changes))
    with contextlib.suppress(DataError):
        assert len(load_table(PrepareConfig(dataset=str(damaged)))) >= MIN_ROWS
