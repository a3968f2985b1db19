"""What is in a dataset, and whether a training would take it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from spinlock_dist import data_info
from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.load import load_batches, load_labels
from spinlock_dist.data.summary import summarize
from spinlock_dist.errors import DataError
from tests.synthetic import write_table


@pytest.fixture
def operators(tmp_path: Path) -> Path:
    """40 rows: ten columns, of which one is constant and one lacks a value, a time series, and labels."""
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(40, 10)) * 10.0 ** np.arange(10) + 1e6
    columns[:, 3] = 7.0
    columns[5, 4] = np.nan
    with h5py.File(tmp_path / "operators.h5", "w") as file:
        file["features/summary/features"] = columns
        file["features/temporal/features"] = rng.normal(size=(40, 6, 2))
        file["metadata/grid_sizes"] = np.repeat([16, 32], 20)
        file["metadata/evolution_policies"] = np.array([b"convex", b"residual"] * 20)
        file["metadata/seconds"] = np.arange(40.0)
    return tmp_path / "operators.h5"


@pytest.mark.parametrize("size", [7, 40])
def test_figures_are_those_of_all_rows(operators: Path, size: int) -> None:
    summary, temporal = summarize(load_batches(PrepareConfig(dataset=str(operators)), size).tables)
    with h5py.File(operators) as file:
        values = file["features/summary/features"][:].astype(np.float32).astype(np.float64)
    assert summary.shape == (40, 10) and temporal.shape == (40, 6, 2)
    assert [column.constant for column in summary.columns] == [place == 3 for place in range(10)]
    assert [column.missing for column in summary.columns] == [int(place == 4) for place in range(10)]
    for name, wanted in (("mean", np.nanmean), ("std", np.nanstd), ("low", np.nanmin), ("high", np.nanmax)):
        found = [getattr(column, name) for column in summary.columns]
        np.testing.assert_allclose(found, wanted(values, axis=0), rtol=1e-6, atol=1e-9)
    assert summary.scales == pytest.approx((np.std(values[:, 0]), np.std(values[:, 9])))


def test_a_column_without_a_value_has_no_figures(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, np.inf]}).to_csv(tmp_path / "t.csv", index=False)
    [family] = summarize(load_batches(PrepareConfig(dataset=str(tmp_path / "t.csv")), 10).tables)
    assert family.columns[1].missing == 2
    assert not family.columns[1].constant
    assert family.columns[1].mean is None and family.columns[1].high is None


def test_rows_are_counted_by_their_labels(operators: Path) -> None:
    labels = load_labels(PrepareConfig(dataset=str(operators)), 40)
    assert set(labels) == {"grid_sizes", "evolution_policies"}  # what is measured is no label
    assert labels["grid_sizes"].tolist() == ["16"] * 20 + ["32"] * 20


def test_a_dataset_that_can_be_trained_on(operators: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_info.main([str(operators)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "summary: constant: feature_3" in said
    assert "values missing: feature_4; at most 1 of 40 in a column" in said
    assert "evolution_policies: convex 20, residual 20" in said
    assert "a training would take it: rows train" in said


def test_json_has_every_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_info.main([str(write_table(tmp_path / "t.npz")), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    [family] = said["families"]
    assert len(family["columns"]) == 24 and family["shape"] == [300, 24]
    assert sum(said["taken"]["categories"].values()) == said["taken"]["columns"]
    assert said["refused"] == []


@pytest.mark.parametrize(
    ("write", "said"),
    [
        ("a,b\n1,2\n", "at least 10"),
        ("a,b\n" + "1,2\n" * 20, "columns"),
        ("a,b\n" + "1,\n2,\n" * 20, "no finite value in column"),
        ("a,b\n1,x\n", "not numeric"),
    ],
)
def test_what_training_would_refuse_is_said_and_counts(
    write: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(write)
    assert data_info.main([str(tmp_path / "t.csv"), "--columns"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "a training would refuse it" in out and said in out


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        data_info.main([str(tmp_path / "none.h5")])
