"""The numbers of a diagnosis against independent computations, and the command around them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from spinlock_dist.categories.category import Category
from spinlock_dist.config import TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.diagnose import main
from spinlock_dist.diagnosis.measure import diagnose, kurtosis, outlier_share
from spinlock_dist.diagnosis.record import CategoryDiagnosis, Diagnosis
from spinlock_dist.errors import CheckpointError, ConfigError, DataError
from spinlock_dist.prepare import fitted_rows, prepare
from spinlock_dist.run import TrialOutcome, run_trial
from spinlock_dist.split import split_rows
from tests.synthetic import write_table


def train(dataset: Path, normalization: str = "standard") -> TrialOutcome:
    config = TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}, "normalization": normalization},
        training={"epochs": 2, "batch_size": 64, "device": "cpu"},
        model={"hidden": 8},
    )
    return run_trial(config, prepare(config.prepare))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> TrialOutcome:
    return train(write_table(tmp_path_factory.mktemp("data") / "table.npz"))


@pytest.fixture(scope="module")
def table(outcome: TrialOutcome) -> FeatureTable:
    return load_table(outcome.config.prepare)


@pytest.fixture(scope="module")
def diagnosis(outcome: TrialOutcome, table: FeatureTable) -> Diagnosis:
    return diagnose(outcome.tokenizer, table)


@pytest.fixture(scope="module")
def checkpoint(outcome: TrialOutcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    outcome.save(folder)
    return folder


def by_name(diagnosis: Diagnosis) -> dict[str, CategoryDiagnosis]:
    return {category.name: category for category in diagnosis.categories}


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_errors_are_those_of_the_metrics(outcome: TrialOutcome, table: FeatureTable, split: str) -> None:
    diagnosis, metrics = diagnose(outcome.tokenizer, table, split), outcome.evaluate(split)
    assert diagnosis.fvu_mean == pytest.approx(metrics.fvu_mean)
    assert diagnosis.imbalance == pytest.approx(metrics.imbalance)
    assert 10**diagnosis.raw.log10_imbalance == pytest.approx(metrics.imbalance_raw)
    for name, category in by_name(diagnosis).items():
        assert category.fvu == pytest.approx(metrics.fvu[name])
        assert category.mse_raw == pytest.approx(metrics.mse_raw[name])


def test_bits_carried_are_those_of_the_metrics(diagnosis: Diagnosis, outcome: TrialOutcome) -> None:
    assert {each.name: each.bits_carried for each in diagnosis.categories} == pytest.approx(
        outcome.validation.bits_carried
    )


def test_codebook_usage_is_that_of_the_metrics(diagnosis: Diagnosis, outcome: TrialOutcome) -> None:
    diagnosed = [
        (category.name, book)
        for category in sorted(diagnosis.categories, key=lambda each: each.name)
        for book in category.codebooks
    ]
    for (name, book), expected in zip(diagnosed, outcome.validation.codebooks, strict=True):
        assert (name, book.level, book.dim) == (expected["category"], expected["level"], expected["dim"])
        assert (book.codes, book.used) == (expected["codes"], expected["used"])
        assert book.perplexity == pytest.approx(expected["perplexity"], rel=1e-6)
    assert sum(b.dead for c in diagnosis.categories for b in c.codebooks) == outcome.validation.dead_codes


@pytest.mark.parametrize("normalization", ["standard", "robust", "quantile"])
def test_raw_imbalance_is_exactly_scale_times_fvu(tmp_path: Path, normalization: str) -> None:
    outcome = train(write_table(tmp_path / "table.npz"), normalization)
    diagnosis = diagnose(outcome.tokenizer, load_table(outcome.config.prepare))
    raw, named = diagnosis.raw, by_name(diagnosis)
    assert raw.log10_imbalance == pytest.approx(raw.log10_scale + raw.log10_fvu, abs=1e-12)
    assert raw.scale_share == pytest.approx(raw.log10_scale / raw.log10_imbalance)
    worst, best = named[raw.worst], named[raw.best]
    assert 10**raw.log10_scale == pytest.approx(worst.variance_raw / best.variance_raw)
    assert 10**raw.log10_fvu == pytest.approx(worst.fvu_raw / best.fvu_raw)
    for category in diagnosis.categories:
        assert category.mse_raw == pytest.approx(category.variance_raw * category.fvu_raw, rel=1e-12)
    assert sum(category.raw_share for category in diagnosis.categories) == pytest.approx(1)


def test_a_study_keeps_the_scales_that_a_diagnosis_measures(outcome: TrialOutcome, table: FeatureTable) -> None:
    """So that both split a raw imbalance alike; the study's are of the rows its data was fitted on."""
    split = split_rows(len(table), outcome.config.prepare.split)
    measured = diagnose(outcome.tokenizer, table, "train", replace(split, train=fitted_rows(split)))
    kept = {each.name: each.mean_variance for each in outcome.tokenizer.characteristics}
    assert {each.name: each.variance_raw for each in measured.categories} == pytest.approx(kept, rel=1e-5)


def test_raw_fvu_weighs_normalized_errors_by_scale(outcome: TrialOutcome, diagnosis: Diagnosis) -> None:
    """With standard normalization, raw error = scale² x normalized error, feature by feature."""
    scale_D = outcome.tokenizer.pipeline.normalization.arrays["scale"]
    split = prepare(outcome.config.prepare).split
    target_ND = outcome.data.values[split.validation].astype(np.float64)
    mean_D = outcome.data.values[split.train].mean(axis=0, dtype=np.float64)
    fvu_D = dict.fromkeys(range(target_ND.shape[1]), 0.0)
    names = outcome.tokenizer.pipeline.feature_names
    for category in diagnosis.categories:
        fvu_D |= {names.index(feature.feature): feature.fvu for feature in category.features}
    variance_D = scale_D**2 * np.square(target_ND - mean_D).mean(axis=0)
    for category in outcome.tokenizer.categories:
        columns = list(category.columns)
        error = (variance_D[columns] * [fvu_D[column] for column in columns]).mean()
        found = by_name(diagnosis)[category.name]
        assert found.variance_raw == pytest.approx(variance_D[columns].mean(), rel=1e-5)
        assert found.fvu_raw == pytest.approx(error / variance_D[columns].mean(), rel=1e-5)


def test_features_are_described_in_raw_units(outcome: TrialOutcome, table: FeatureTable, diagnosis: Diagnosis) -> None:
    pipeline = outcome.tokenizer.pipeline
    raw_ND = pipeline.clean(table)[prepare(outcome.config.prepare).split.validation]
    ledger = {entry.feature: entry for entry in pipeline.cleaning.ledger}
    for category in diagnosis.categories:
        assert sum(feature.error_share for feature in category.features) == pytest.approx(1)
        shares = [feature.error_share for feature in category.features]
        assert shares == sorted(shares, reverse=True)
        for feature in category.features:
            x_N = raw_ND[:, pipeline.feature_names.index(feature.feature)]
            assert feature.std == pytest.approx(x_N.std(), rel=1e-5)
            assert feature.kurtosis == pytest.approx(stats.kurtosis(x_N, fisher=False), rel=1e-4)
            assert feature.feature == f"{feature.family}::{feature.name}"
            assert (feature.imputed, feature.clipped) == (
                ledger[feature.feature].imputed,
                ledger[feature.feature].clipped,
            )
    assert sum(len(category.features) for category in diagnosis.categories) == raw_ND.shape[1]


def test_sizes_are_those_of_the_plan(outcome: TrialOutcome, diagnosis: Diagnosis) -> None:
    plan = outcome.tokenizer.plan
    for index, category in enumerate(outcome.tokenizer.categories):
        found = by_name(diagnosis)[category.name]
        assert (found.dims, found.codes) == (tuple(plan.dims[index]), tuple(plan.codes[index].prod(axis=1)))
        assert found.bits == pytest.approx(plan.bits[index].sum())
        assert found.bits_per_feature == pytest.approx(found.bits / len(category))
        assert found.distance == pytest.approx(found.fvu / found.reference_fvu)
        assert found.families == {"summary": len(category)}
    features = sum(map(len, outcome.tokenizer.categories))
    assert diagnosis.bits_per_feature == pytest.approx(plan.bits_per_sample / features)


def test_the_worst_category_comes_first(diagnosis: Diagnosis) -> None:
    errors = [category.fvu for category in diagnosis.categories]
    assert errors == sorted(errors, reverse=True)


def test_of_another_dataset_all_rows_are_scored(outcome: TrialOutcome, tmp_path: Path) -> None:
    path = write_table(tmp_path / "other.npz", rows=80, seed=1)
    other = load_table(outcome.config.prepare.model_copy(update={"dataset": str(path)}))
    diagnosis = diagnose(outcome.tokenizer, other, split=None)
    assert (diagnosis.rows, diagnosis.row_count, diagnosis.codebook_row_count) == ("all", 80, 80)
    raw, rebuilt = outcome.tokenizer.pipeline.clean(other), outcome.tokenizer.decode(outcome.tokenizer.encode(other))
    everything = Category("all", tuple(range(raw.shape[1])))
    mse = sum(category.mse_raw * len(category.features) for category in diagnosis.categories) / len(everything)
    assert mse == pytest.approx(np.square(raw - rebuilt).mean(), rel=1e-4)


columns = hnp.arrays(np.float64, (40, 3), elements=st.integers(-50, 50).map(float))


@given(columns, st.floats(0.01, 100), st.integers(-10, 10))
def test_shape_statistics_do_not_depend_on_scale(x_ND: np.ndarray, scale: float, shift: int) -> None:
    moved = x_ND * 2.0 ** round(np.log2(scale)) + shift
    assert np.allclose(kurtosis(moved), kurtosis(x_ND))
    assert np.array_equal(outlier_share(moved), outlier_share(x_ND))


def test_shape_statistics_of_known_columns() -> None:
    normal = np.random.default_rng(0).normal(size=(20_000, 1))
    spiked = np.concatenate([np.linspace(0, 1, 99), [1e6]])[:, None]
    assert kurtosis(normal) == pytest.approx(3, abs=0.15)
    assert kurtosis(spiked) == pytest.approx(stats.kurtosis(spiked[:, 0], fisher=False))
    assert outlier_share(spiked) == pytest.approx(0.01)
    assert kurtosis(np.full((5, 1), 7.0)) == 0


def test_the_training_data_is_recognized(outcome: TrialOutcome, table: FeatureTable, diagnosis: Diagnosis) -> None:
    assert diagnosis.is_training_data
    assert not diagnose(outcome.tokenizer, table.rows(np.arange(len(table))[::-1])).is_training_data


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize("width", [40, 80, 200])
def test_overview_names_every_category_at_every_width(
    checkpoint: Path,
    diagnosis: Diagnosis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([str(checkpoint), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    table = lines[next(at for at, line in enumerate(lines) if "───" in line) :]
    rows = [line.split() for line in table[1 : 1 + len(diagnosis.categories)]]
    assert [row[0] for row in rows] == [category.name for category in diagnosis.categories]
    assert [row[3] for row in rows] == [f"{category.fvu:.4f}" for category in diagnosis.categories]
    assert not any("…" in line for line in lines)


def test_one_category_is_shown_feature_by_feature(
    checkpoint: Path, diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    worst = diagnosis.categories[0]
    assert main([str(checkpoint), "--device", "cpu", "--category", worst.name]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert all(feature.feature in shown for feature in worst.features)
    levels = [line.split()[0] for line in shown.splitlines() if line.startswith("L")]
    assert levels == [book.level for book in worst.codebooks]


def test_json_holds_everything(checkpoint: Path, diagnosis: Diagnosis, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(checkpoint), "--device", "cpu", "--json"])
    read = json.loads(capsys.readouterr().out)
    assert read["raw"] == dataclasses.asdict(diagnosis.raw)
    for category, expected in zip(read["categories"], diagnosis.categories, strict=True):
        assert category.pop("causes")
        assert category == json.loads(json.dumps(dataclasses.asdict(expected)))
    main([str(checkpoint), "--device", "cpu", "--json", "--category", "cluster_2"])
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["categories"]] == ["cluster_2"]


def test_another_dataset_is_read(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_table(tmp_path / "other.npz", rows=50, seed=2)
    main([str(checkpoint), "--device", "cpu", "--json", "--dataset", str(other)])
    read = json.loads(capsys.readouterr().out)
    assert (read["source"], read["row_count"]) == (str(other), 50)


def test_what_a_user_can_get_wrong_is_said(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--category cluster_9: no such category; did you mean 'cluster_"):
        main([str(checkpoint), "--device", "cpu", "--category", "cluster_9"])
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        main([str(tmp_path / "nothing")])
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoint, damaged)
    (damaged / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="damaged"):
        main([str(damaged), "--device", "cpu"])
    other = write_table(tmp_path / "other.npz", sizes=(8, 4, 11))
    with pytest.raises(DataError, match="not those the pipeline was fitted on"):
        main([str(checkpoint), "--device", "cpu", "--dataset", str(other)])
    with pytest.raises(DataError, match="no such dataset"):
        main([str(checkpoint), "--device", "cpu", "--dataset", str(tmp_path / "missing.npz")])


def test_a_dataset_that_is_gone_is_named(tmp_path: Path) -> None:
    dataset = write_table(tmp_path / "table.npz", rows=60)
    train(dataset).save(tmp_path / "checkpoint")
    dataset.unlink()
    with pytest.raises(DataError, match=r"table\.npz: what this checkpoint was trained on is not there"):
        main([str(tmp_path / "checkpoint"), "--device", "cpu"])
