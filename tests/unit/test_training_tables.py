"""The tables of a study: the same rows on disk and in a notebook, and what a category costs and scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import results
from results.analysis.tables import category_table
from results.dataframes import STORED, LoadedStudy
from results.records.stored_tables import read_tables
from results.records.study_folder import StudyFolder
from spinlock_dist.errors import ConfigError
from tests.synthetic_study import build_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return build_study(tmp_path_factory.mktemp("runs"), "s", 30)


def test_a_loaded_study_has_the_tables_on_disk(folder):
    study = results.load(folder.path)
    assert not study.record.problems
    stored = pd.read_parquet(folder.trials).drop(columns=list(STORED))
    plain = [name for name in stored if not name.startswith("param.")]
    pd.testing.assert_frame_equal(study.trials[plain], stored[plain], check_dtype=False)
    assert list(study.trials) == list(stored)
    pd.testing.assert_frame_equal(study.curves.drop(columns="folds"), pd.read_parquet(folder.curves), check_dtype=False)
    assert set(study.curves["folds"]) == {1}


def test_settings_are_numbers_and_words(folder):
    study = results.load(folder.path)
    for record, (_, row) in zip(study.record.records, study.trials.iterrows(), strict=True):
        found = {name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")}
        assert {name: value for name, value in found.items() if not pd.isna(value)} == record.params
    kinds = study.trials.dtypes
    assert pd.api.types.is_float_dtype(kinds["param.training.learning_rate"])
    assert pd.api.types.is_string_dtype(kinds["param.compression.strategy"])
    assert not any(
        isinstance(value, str) and value.startswith(('"', "{", "[")) for value in study.trials.to_numpy().ravel()
    )


def test_a_study_and_its_parts_are_shown_in_a_few_words(folder):
    study = results.load(folder.path)
    assert len(repr(study)) < 1200 and len(study._repr_html_()) < 2500
    assert study.record.verdict["conclusion"].split(". ")[0] in repr(study)
    best = study.record.best
    for shown in (repr(study), study._repr_html_()):
        assert f"trial {best.number}" in shown and best.metrics.in_words("imbalance") in shown and ".trials" in shown
    assert len(repr(study.record)) < 200
    assert max(len(repr(record)) for record in study.record.records) < 200
    assert all(len(repr(record.metrics)) < 200 for record in study.record.records)


def test_what_is_shown_of_a_study_that_has_nothing_yet(folder):
    bare = LoadedStudy(replace(results.load(folder.path).record, records=[], verdict=None, problems=["<b>lost</b>"]))
    assert "1 of its files are damaged or missing" in repr(bare)
    assert "<table>" not in bare._repr_html_() and "<b>" not in bare._repr_html_()


def test_a_study_is_loaded_from_within_its_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.path)
    assert results.load(".").record.name == folder.name


def test_a_category_has_its_error_its_scale_and_its_share_of_the_bits(folder):
    study = results.load(str(folder.path))
    table = study.categories
    assert list(table.columns[:5]) == ["phase", "arm", "number", "split", "category"]
    assert table.groupby("category")["scale"].first().to_dict() == pytest.approx(study.record.scales)
    np.testing.assert_allclose(table["bits_per_feature"] * table["features"], table["bits"])
    sizes = np.log2(table[["codes.L0", "codes.L1", "codes.L2"]]).sum(axis=1)
    np.testing.assert_allclose(sizes, table["bits"])
    by_trial = table[table["split"] == "validation"].groupby(["phase", "arm", "number"])["bits"].sum()
    trials = study.trials.dropna(subset="bits_per_sample").set_index(["phase", "arm", "number"])
    np.testing.assert_allclose(by_trial.loc[trials.index], trials["bits_per_sample"])
    assert set(table[table["phase"] == "final"]["split"]) == {"validation", "test"}


def test_codebooks_of_a_level_multiply_and_a_level_that_is_off_has_one_code(make_metrics, make_record):
    books = [
        {"category": "c0", "level": "L0", "dim": 8, "codes": 16, "used": 16, "perplexity": 9.0},
        {"category": "c0", "level": "L0.2", "dim": 8, "codes": 4, "used": 4, "perplexity": 3.0},
        {"category": "c0", "level": "L2", "dim": 4, "codes": 2, "used": 2, "perplexity": 2.0},
    ]
    record = make_record(0, metrics=make_metrics(0.5, 0.0, codebooks=books))
    table = category_table([record, make_record(1, state="failed")], {"c0": 14}, {"c0": 9.0}).set_index("category")
    assert table.loc["c0", ["dim.L0", "codes.L0", "dim.L1", "codes.L1", "codes.L2"]].tolist() == [8, 64, 0, 1, 2]
    assert table.loc["c0", ["bits", "bits_per_feature"]].tolist() == [7, 0.5]
    assert pd.isna(table.loc["c1", "scale"]) and pd.isna(table.loc["c1", "bits_per_feature"])
    assert table.loc["c1", "bits"] == 0


def test_curves_and_codebooks_are_read_only_if_they_are_wanted(folder):
    whole, _ = read_tables(folder)
    bare, fresh = read_tables(folder, details=False)
    assert fresh
    assert any(record.curve for record in whole)
    assert all(metrics.codebooks for record in whole for metrics in (record.metrics, record.test) if metrics)
    assert not any(record.curve for record in bare)

    def without(record):
        parts = {part: getattr(record, part) for part in ("metrics", "test")}
        bare = {part: metrics and replace(metrics, codebooks=[]) for part, metrics in parts.items()}
        return replace(record, curve=[], **bare)

    assert bare == [without(record) for record in whole]


def test_what_is_no_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no study"):
        results.load(tmp_path)
