from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
from spinlock_dist.features.pipeline import FeaturePipeline, fit_pipeline

TRAIN = np.arange(0, 90)


def table(rows: int = 120, beyond: int | None = None) -> FeatureTable:
    """Return a table; fields of rows `beyond` are of another kind."""
    rng = np.random.default_rng(0)
    summary = rng.normal(size=(rows, 6)) * [1e-5, 1, 1, 1e3, 1e8, 0]
    summary[::7, 1] = np.nan
    series = rng.normal(size=(rows, 16, 2)).cumsum(axis=1)
    fields = rng.normal(size=(rows, 3, 8, 8))
    fields[rows if beyond is None else beyond :] = 1e6
    return FeatureTable(
        columns={"summary": summary.astype(np.float32), "temporal": series.astype(np.float32)},
        names={"summary": tuple("abcdef"), "temporal": ("energy", "slope")},
        source="a table",
        fields=Fields(fields),
    )


def fit(rows: np.ndarray = TRAIN, of: FeatureTable | None = None, **settings: Any) -> FeaturePipeline:
    return fit_pipeline(of or table(), rows, PrepareConfig.model_validate(settings))[0]


NETWORKS = {
    "summary": {"encoder": "mlp", "hidden": [8], "output": 4},
    "temporal": {"encoder": "temporal_cnn", "embedding": 4},
}
HYBRID = {"summary": {"encoder": "initial_hybrid", "embedding": 4}}
SETTINGS = [
    {},
    {"normalization": "robust"},
    {"normalization": "quantile"},
    {"families": NETWORKS},
    {"families": HYBRID},
]


def test_names_tell_family_feature_and_statistic() -> None:
    pipeline = fit()
    assert pipeline.feature_names[:2] == ("summary::a", "summary::b")
    assert "temporal::energy.trend" in pipeline.feature_names
    assert "summary::f" not in pipeline.feature_names  # constant
    assert pipeline.families == tuple(name.split("::")[0] for name in pipeline.feature_names)


@pytest.mark.parametrize("settings", SETTINGS, ids=["standard", "robust", "quantile", "networks", "hybrid"])
class TestState:
    def test_rebuilt_from_safetensors_and_json(self, settings: dict[str, Any], tmp_path: Path) -> None:
        pipeline = fit(**settings)
        arrays, meta = pipeline.to_state()
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "a.safetensors")
        copy = FeaturePipeline.from_state(load_file(tmp_path / "a.safetensors"), json.loads(json.dumps(meta)))
        values = pipeline.transform(table())
        np.testing.assert_array_equal(copy.transform(table()), values)
        np.testing.assert_array_equal(copy.invert(values), pipeline.invert(values))
        assert copy.feature_names == pipeline.feature_names

    def test_pickles(self, settings: dict[str, Any]) -> None:
        pipeline = fit(**settings)
        copy = pickle.loads(pickle.dumps(pipeline))
        np.testing.assert_array_equal(copy.transform(table()), pipeline.transform(table()))

    def test_invert_returns_to_raw_units(self, settings: dict[str, Any]) -> None:
        pipeline = fit(**settings)
        cleaned = pipeline.clean(table())
        inside = slice(0, len(TRAIN))
        back = pipeline.invert(pipeline.transform(table()))
        spread = cleaned.std(axis=0)
        np.testing.assert_allclose(back[inside] / spread, cleaned[inside] / spread, atol=1e-4)

    def test_only_training_rows_are_learned_from(self, settings: dict[str, Any]) -> None:
        changed = table(beyond=len(TRAIN))
        for values in changed.columns.values():
            values[len(TRAIN) :] = 1e6
        arrays, meta = fit(**settings).to_state()
        other_arrays, other_meta = fit(of=changed, **settings).to_state()
        assert meta == other_meta
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, other_arrays[name], err_msg=name)

    def test_values_are_finite_float32(self, settings: dict[str, Any]) -> None:
        values = fit(**settings).transform(table())
        assert values.dtype == np.float32
        assert np.isfinite(values).all()


def test_every_row_on_its_own() -> None:
    pipeline = fit()
    rows = np.array([5, 3, 110])
    np.testing.assert_allclose(pipeline.transform(table().rows(rows)), pipeline.transform(table())[rows], rtol=1e-6)


def test_absent_family() -> None:
    part = FeatureTable(
        columns={"summary": table().columns["summary"]}, names={"summary": tuple("abcdef")}, source="part.h5"
    )
    with pytest.raises(DataError, match=r"part.h5: no family 'temporal'"):
        fit().transform(part)


def test_other_columns() -> None:
    whole = table()
    renamed = FeatureTable(columns=whole.columns, names={**whole.names, "summary": tuple("abcdeg")}, source="other.h5")
    with pytest.raises(DataError, match=r"other.h5: the columns of family 'summary' are not those"):
        fit().transform(renamed)
