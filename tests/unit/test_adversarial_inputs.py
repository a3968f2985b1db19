"""Data at the edges, through the whole of training: every number that comes out is finite, or a line says why not.

Warnings are errors here, so nothing of numpy or torch reaches the terminal either.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinlock_dist.checkpoint import load_checkpoint
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import PrepareConfig, SplitConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.errors import run_command
from spinlock_dist.split import split_rows
from spinlock_dist.train import main

ROWS, COLUMNS = 120, 12
TINY = ["--epochs", "2", "--device", "cpu", "--set", "model.hidden=8", "--set", "training.batch_size=32"]


def correlated(rows: int = ROWS, columns: int = COLUMNS, factors: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(rows, factors)) @ rng.normal(size=(factors, columns))
    return common + 0.3 * rng.normal(size=(rows, columns))


def with_column(column: np.ndarray | float) -> np.ndarray:
    x = correlated()
    x[:, 3] = column
    return x


def spoiled(value: float) -> np.ndarray:
    x = correlated()
    x[np.random.default_rng(1).random(x.shape) < 0.1] = value
    return x


def with_validation(value: float) -> np.ndarray:
    x = correlated()
    x[split_rows(ROWS, SplitConfig()).validation] = value
    return x


TRAINED: dict[str, Callable[[], np.ndarray]] = {
    "constant column": lambda: with_column(7.0),
    "scale 1e12": lambda: with_column(1e13 + 1e12 * correlated()[:, 3]),
    "everything at 1e12": lambda: 1e13 + 1e12 * correlated(),
    "everything at 1e-5": lambda: 1e-5 * correlated(),
    "at the end of float32": lambda: 1e37 * correlated(),
    "cauchy": lambda: np.random.default_rng(2).standard_cauchy((ROWS, COLUMNS)),
    "cauchy at 1e15": lambda: 1e15 * np.random.default_rng(2).standard_cauchy((ROWS, COLUMNS)),
    "50 rows": lambda: correlated(50),
    "every column twice": lambda: np.tile(correlated(), 2),
    "integers": lambda: np.random.default_rng(3).integers(0, 3, (ROWS, COLUMNS)),
    "rare ones": lambda: (np.random.default_rng(4).random((ROWS, COLUMNS)) < 0.05).astype(int),
    "one hot": lambda: np.eye(COLUMNS)[np.arange(ROWS) % COLUMNS],
    "gaps": lambda: spoiled(np.nan),
    "infinities": lambda: spoiled(np.inf),
    "beyond float32": lambda: spoiled(1e300),
    "two columns": lambda: correlated(columns=2),
    "every row twice": lambda: np.repeat(correlated(ROWS // 2), 2, axis=0),
    "three rows, 40 times each": lambda: np.repeat(correlated(3), 40, axis=0),
    "all rows alike but five": lambda: np.concatenate([np.zeros((ROWS - 5, COLUMNS)), correlated(5)]),
    "integers near 2 ** 63": lambda: np.random.default_rng(5).integers(2**62, 2**63 - 1, (ROWS, COLUMNS)),
    "validation rows all alike": lambda: with_validation(5.0),
    "validation rows missing": lambda: with_validation(np.nan),
}
ONE_BY_ONE = ["prepare.categories.count=12", "prepare.categories.min_features=1"]
EVERY_STRATEGY: dict[str, tuple[str, list[str]]] = {
    **{name: (name, []) for name in ("constant column", "scale 1e12", "cauchy", "50 rows")},
    **{name: (name, []) for name in ("every column twice", "integers", "three rows, 40 times each")},
    "one category": ("gaps", ["prepare.categories.count=1"]),
    "categories of one feature": ("infinities", ONE_BY_ONE),
}
"""Data by its name in `TRAINED`, and the settings it is trained with."""

VARIANTS = {
    "quantile": ["prepare.normalization=quantile", "compression.strategy=waterfill"],
    "robust": ["prepare.normalization=robust", "compression.strategy=feedback", "compression.feedback.rounds=1"],
    "from noise": ["model.levels=parallel", "model.decoder=shared", "model.initialization=random"],
    "every loss": ["loss.orthogonality=0.1", "loss.topographic=0.1", "loss.reconstruction_balance=worst"],
    "fsq": ["quantizer.kind=fsq"],
}


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def written(folder: Path, values: np.ndarray, suffix: str = "npz") -> Path:
    path = folder / f"table.{suffix}"
    if suffix == "csv":
        pd.DataFrame(values, columns=[f"table::feature_{column}" for column in range(values.shape[1])]).to_csv(
            path, index=False
        )
    else:
        np.savez(path, features=values)
    return path


def settings(names: list[str]) -> list[str]:
    return [argument for name in names for argument in ("--set", name)]


def trained(dataset: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Train through the command; return the validation metrics after checking all of them and the checkpoint."""
    out = dataset.parent / "checkpoint"
    assert main(["--dataset", str(dataset), *TINY, *arguments, "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    metrics = json.loads(printed.out)["validation"]
    assert_sound(metrics)
    assert_round_trip(out, dataset)
    return metrics


def numbers(value: Any) -> Iterator[float]:
    """Yield every number in nested metrics, those of each category and codebook among them."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, int | float):
        yield value


def assert_sound(metrics: dict[str, Any]) -> None:
    assert all(math.isfinite(number) for number in numbers(metrics))
    assert set(metrics["fvu"]) == set(metrics["mse_raw"]) == set(metrics["reference_fvu"])
    assert all(error >= 0 for error in metrics["fvu"].values())
    assert metrics["imbalance"] >= 1 and metrics["imbalance_raw"] >= 1
    assert 0 < metrics["utilization"] <= 1 and metrics["bits_per_sample"] > 0


def assert_round_trip(checkpoint: Path, dataset: Path) -> None:
    tokenizer = load_checkpoint(checkpoint, device="cpu")
    tokens = tokenizer.encode(load_table(PrepareConfig(dataset=str(dataset))))
    rebuilt = tokenizer.decode(tokens)
    assert rebuilt.shape == (len(tokens), len(tokenizer.pipeline.feature_names)) and np.isfinite(rebuilt).all()


@pytest.mark.parametrize("name", TRAINED)
def test_odd_data_is_trained(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = trained(written(tmp_path, TRAINED[name]()), capsys)
    assert metrics["fvu_mean"] < 1 or name == "validation rows missing", "better than the training mean"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", EVERY_STRATEGY)
def test_every_strategy_trains_on_it(
    name: str, strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, given = EVERY_STRATEGY[name]
    given = [*given, "compression.feedback.rounds=1", f"compression.strategy={strategy}"]
    metrics = trained(written(tmp_path, TRAINED[data](), suffix="csv"), capsys, *settings(given))
    if name == "one category":
        assert list(metrics["fvu"]) == ["cluster_1"] and metrics["imbalance"] == 1 == metrics["imbalance_raw"]


def test_a_pilot_may_miss_the_only_rows_in_which_a_category_varies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.zeros((ROWS, COLUMNS))
    x[split_rows(ROWS, SplitConfig()).train[:COLUMNS], np.arange(COLUMNS)] = 1  # one row a column
    given = ["compression.strategy=feedback", "compression.feedback.rounds=1"]
    assert len(trained(written(tmp_path, x), capsys, *settings([*ONE_BY_ONE, *given]))["fvu"]) == COLUMNS


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["scale 1e12", "cauchy at 1e15", "50 rows", "rare ones"])
def test_under_every_kind_of_model(name: str, variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(written(tmp_path, TRAINED[name]()), capsys, *settings(VARIANTS[variant]))


def test_five_thousand_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Many categories, since the time goes with the cube of a category's columns.
    mapping = tmp_path / "mapping.json"
    names = [f"table::feature_{column}" for column in range(5000)]
    mapping.write_text(json.dumps({f"part {start}": names[start : start + 200] for start in range(0, 5000, 200)}))
    metrics = trained(written(tmp_path, correlated(60, 5000)), capsys, "--set", f"prepare.categories.mapping={mapping}")
    assert len(metrics["fvu"]) == 25


REFUSED: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "zeros": (lambda: np.zeros((ROWS, COLUMNS)), "cleaning keeps 0 of 12 columns, 2 are needed (dropped: 12 constant)"),
    "one column": (lambda: correlated(columns=1), "cleaning keeps 1 of 1 columns, 2 are needed"),
    "one column 12 times": (lambda: np.repeat(correlated(columns=1), 12, axis=1), "(dropped: 11 duplicate)"),
    "column of NaN": (lambda: with_column(np.nan), "no finite value in column table::feature_3; remove it"),
    "column of infinity": (lambda: with_column(np.inf), "no finite value in column table::feature_3; remove it"),
    "NaN alone": (lambda: np.full((ROWS, COLUMNS), np.nan), "no finite value in column table::feature_0"),
    "two rows, 60 times each": (lambda: np.repeat(correlated(2), 60, axis=0), "(dropped: 11 duplicate)"),
    "everything at 1e-20": (lambda: 1e-20 * correlated(), "(constant: std <= cleaning.min_std 1e-10)"),
    "all rows alike": (lambda: np.repeat(correlated(1), ROWS, axis=0), "(dropped: 12 constant)"),
    "no rows": (lambda: np.zeros((0, COLUMNS)), "column names but no rows"),
    "no columns": (lambda: np.zeros((ROWS, 0)), "the table has no columns"),
    "2 rows": (lambda: correlated(2), "2 rows; at least 10 are needed"),
}
"""What is wrong with it, besides the file's name."""


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: main([*TINY, *arguments]))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in said and said.startswith("error: ") and len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_from_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = REFUSED[name]
    dataset = written(tmp_path, make())
    said = refusal(capsys, "--dataset", str(dataset))
    assert str(dataset) in said and message in said and ";" in said


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_too_few_rows_for_any_codebook_are_refused(
    strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = written(tmp_path, correlated(12))
    said = refusal(capsys, "--dataset", str(dataset), "--set", f"compression.strategy={strategy}")
    assert "every codebook has one code: 6 training rows, compression.min_rows_per_code 8" in said
    given = ["compression.min_rows_per_code=1", "compression.feedback.rounds=1"]
    assert trained(dataset, capsys, *settings([*given, f"compression.strategy={strategy}"]))["fvu"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_words_in_a_column_are_refused_and_gaps_are_not(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame(correlated(), columns=[f"summary::f{column}" for column in range(COLUMNS)])
    frame.iloc[5:9, 2] = np.nan
    dataset = tmp_path / f"table.{suffix}"
    write = frame.to_parquet if suffix == "parquet" else lambda path: frame.to_csv(path, index=False)
    write(dataset)
    assert len(trained(dataset, capsys)["fvu"]) >= 1
    frame["summary::f3"] = frame["summary::f3"].astype(str).where(frame.index != 7, "broken")
    write(dataset)
    said = refusal(capsys, "--dataset", str(dataset))
    assert str(dataset) in said and "columns that are not numeric: summary::f3; remove or encode them" in said


def command(dataset: Path) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-m", "spinlock_dist.train", "--dataset", str(dataset), *TINY]
    return subprocess.run(given, capture_output=True, text=True, check=False)


def test_as_a_program(tmp_path: Path) -> None:
    done = command(written(tmp_path, TRAINED["cauchy"](), suffix="csv"))
    assert done.returncode == 0 and done.stderr == "" and "validation" in done.stdout
    refused = command(written(tmp_path, REFUSED["zeros"][0]()))
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith("error: ") and len(refused.stderr.splitlines()) == 1
