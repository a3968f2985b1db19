"""Initial fields: read when an encoder looks at them, block by block; the family computed where a file has none."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from spinlock_dist.checkpoint import load_checkpoint
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.data.initial_fields import BLOCK, Fields
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial
from spinlock_dist.simulator.features_initial import describe

ROWS = 120
HYBRID = {"initial": {"encoder": "initial_hybrid", "embedding": 4}}
READABLE = {"initial": {"encoder": "identity"}}


@pytest.fixture
def file(operators_file: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    copy = tmp_path / "operators.h5"
    copy.write_bytes(operators_file.read_bytes())
    return copy


def load(path: Path, **settings: object) -> FeatureTable:
    return load_table(PrepareConfig.model_validate({"dataset": str(path), **settings}))


class CountingSource:
    """An array that notes which rows are read."""

    def __init__(self, values: np.ndarray):
        self.values, self.reads = values, list[np.ndarray]()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        self.reads.append(rows)
        return self.values[rows]


class TestFields:
    def test_choosing_rows_reads_none_and_keeps_their_order(self) -> None:
        values = np.random.default_rng(0).normal(size=(30, 2, 3, 4)).astype(np.float32)
        source = CountingSource(values)
        chosen = Fields(source).rows(np.array([7, 3, 3, 29])).rows(np.array([3, 1, 0]))
        assert chosen.shape == (3, 2, 3, 4)
        assert source.reads == []
        np.testing.assert_array_equal(chosen[:], values[[29, 3, 7]])

    def test_blocks_bound_what_is_in_memory(self) -> None:
        source = CountingSource(np.zeros((2 * BLOCK + 5, 1, 2, 2), np.float32))
        assert [len(block) for block in Fields(source).blocks()] == [BLOCK, BLOCK, 5]
        assert max(len(rows) for rows in source.reads) == BLOCK

    @pytest.mark.parametrize("rows", [[0], [5, 6, 7], [1, 30, ROWS - 1], list(range(0, ROWS, 2))])
    def test_a_files_rows(self, operators_file: Path, rows: list[int]) -> None:
        with h5py.File(operators_file) as stored:
            expected = stored["inputs/fields"][()]
        fields = load(operators_file).fields
        assert fields is not None
        np.testing.assert_array_equal(fields.rows(np.array(rows))[:], expected[rows])


class TestReading:
    def test_fields_are_not_read_unless_an_encoder_looks_at_them(self, file: Path) -> None:
        config = PrepareConfig(dataset=str(file), families=HYBRID)
        pipeline, readable = prepare(config).pipeline, load(file, families=READABLE)
        table = load_table(config)
        file.unlink()
        assert np.isfinite(readable.columns["initial"]).any()  # what was loaded is whole without the file ...
        with pytest.raises(DataError, match=r"operators\.h5"):  # ... but for what nobody had looked at
            pipeline.transform(table)

    def test_only_the_first_rows(self, operators_file: Path) -> None:
        table = load(operators_file, families=HYBRID, max_samples=20)
        assert table.fields is not None and table.fields.shape == (20, 3, 8, 8)

    def test_other_encoders_do_not_mind_strange_fields(self, file: Path) -> None:
        with h5py.File(file, "a") as stored:
            del stored["inputs/fields"]
            stored["inputs/fields"] = np.zeros((ROWS, 8))
        assert load(file, families=READABLE).fields is None

    def test_a_file_without_fields_is_refused(self, file: Path) -> None:
        with h5py.File(file, "a") as stored:
            del stored["inputs/fields"]
        with pytest.raises(DataError, match=r"family 'initial' looks at initial fields, which are not there \(/inputs"):
            load(file, families=HYBRID)

    def test_a_flat_table_is_refused(self, tmp_path: Path) -> None:
        names = [f"initial::{name}" for name in "abc"]
        np.savez(tmp_path / "t.npz", features=np.random.default_rng(0).normal(size=(ROWS, 3)), feature_names=names)
        with pytest.raises(DataError, match=r"t\.npz: encoder 'initial_hybrid' .* use another encoder"):
            load(tmp_path / "t.npz", families=HYBRID)

    def test_fields_of_other_rows_are_refused(self, file: Path) -> None:
        with h5py.File(file, "a") as stored:
            fields = stored["inputs/fields"][: ROWS - 1]
            del stored["inputs/fields"]
            stored["inputs/fields"] = fields
        with pytest.raises(DataError, match="119 initial fields for 120 rows of features"):
            load(file, families=HYBRID)


class TestManualFeatures:
    def test_they_are_those_of_the_file_where_it_has_them(self, file: Path) -> None:
        with h5py.File(file, "a") as stored:
            stored["features/initial/aggregated/features"][:, 0] = 7
        assert (load(file, families=HYBRID).columns["initial"][:, 0] == 7).all()

    def test_they_are_computed_from_the_fields_where_it_has_none(self, operators_file: Path, file: Path) -> None:
        with h5py.File(file, "a") as stored:
            del stored["features/initial"]
        computed, given = load(file, families=HYBRID), load(operators_file, families=READABLE)
        assert computed.names["initial"] == given.names["initial"]
        np.testing.assert_allclose(computed.columns["initial"], given.columns["initial"], rtol=1e-3, atol=1e-5)

    def test_only_the_family_of_that_name_can_be_computed(self, operators_file: Path) -> None:
        with pytest.raises(DataError, match="no family 'inital'; did you mean 'initial'"):
            load(operators_file, families={"inital": HYBRID["initial"]})

    def test_fields_that_are_not_square_are_refused(self, file: Path) -> None:
        with h5py.File(file, "a") as stored:
            del stored["features/initial"], stored["inputs/fields"]
            stored["inputs/fields"] = np.zeros((ROWS, 3, 8, 16), np.float32)
        with pytest.raises(DataError, match=r"no family 'initial', and .* square fields only, not 8 x 16"):
            load(file, families=HYBRID)

    def test_a_file_of_spinlock_has_none_and_is_taken(self, spinlock_file: Path) -> None:
        data = prepare(PrepareConfig(dataset=str(spinlock_file), families=HYBRID))
        kept = set(data.feature_names)
        assert any(name.startswith("initial::cnn_") for name in kept)
        assert any(name.startswith("initial::spectral_") for name in kept)
        table = load(spinlock_file, families=HYBRID)
        with h5py.File(spinlock_file) as stored:
            expected = describe(stored["inputs/fields"][()].astype(np.float32))
        for name, column in zip(table.names["initial"], table.columns["initial"].T, strict=True):
            np.testing.assert_allclose(column, expected[name], rtol=1e-5, err_msg=name)


def test_a_checkpoint_needs_nothing_but_raw_features_and_fields(operators_file: Path, tmp_path: Path) -> None:
    families = {**HYBRID, "temporal": {"encoder": "temporal_stats"}}
    config = TrialConfig(
        prepare={"dataset": str(operators_file), "families": families},
        training={"epochs": 2, "batch_size": 16, "device": "cpu"},
        compression={"min_rows_per_code": 1},
    )
    outcome = run_trial(config, prepare(config.prepare))
    outcome.save(tmp_path / "checkpoint")
    whole = load(operators_file)
    assert whole.fields is not None
    in_memory = FeatureTable(
        columns=whole.columns, names=whole.names, source="memory", fields=Fields(whole.fields.rows(np.arange(ROWS))[:])
    )
    tokens = outcome.tokenizer.encode(load_table(config.prepare))
    reloaded = load_checkpoint(tmp_path / "checkpoint", device="cpu")
    np.testing.assert_array_equal(reloaded.encode(in_memory), tokens)
    rows = np.array([101, 3, 17])
    np.testing.assert_array_equal(reloaded.encode(whole.rows(rows)), tokens[rows])
    without = FeatureTable(columns=whole.columns, names=whole.names, source="bare")
    with pytest.raises(DataError, match="bare: encoder 'initial_hybrid'"):
        reloaded.encode(without)
    fields_alone = FeatureTable(
        columns={name: values for name, values in whole.columns.items() if name != "initial"},
        names=whole.names,
        source="fields alone",
        fields=in_memory.fields,
    )
    agree = (reloaded.encode(fields_alone) == tokens).mean()
    assert agree > 0.99, "manual features computed from the fields differ from the file's by rounding alone"
