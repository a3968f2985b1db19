"""Valid files with one thing wrong: what is read is what was written, row by row, and all else is refused in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.config import PrepareConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.errors import DataError
from tests.fuzz import bounded, inputs

ROWS, COLUMNS = 24, 4
VALUES = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).round(3).astype(np.float32)
NAMES = [f"summary::{letter}" for letter in "abcd"]
PLACE = "features/summary/features"

Draw = Callable[[st.SearchStrategy], Any]


def read_or_refused(path: Path) -> np.ndarray | None:
    """The values, None if the file is refused; it must be in one line that names it."""
    said = ""
    try:
        table = load_table(PrepareConfig(dataset=str(path)))
    except DataError as error:
        said = str(error)
        assert str(path.parent) in said and "\n" not in said
        return None
    [values] = table.columns.values()
    return values


def as_written(path: Path) -> None:
    """Hold that a file is refused or read as `VALUES`, in order; the last rows may lack where the file said so."""
    values = read_or_refused(path)
    assert values is None or np.array_equal(values, VALUES, equal_nan=True)


# ---------------------------------------------------------------- HDF5


@settings(max_examples=inputs(40), deadline=None)
@given(st.data())
@bounded
def test_any_part_of_an_hdf5_dataset_that_was_not_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("h") / "a.h5"
    chunks = (data.draw(st.integers(1, ROWS)), data.draw(st.integers(1, COLUMNS)))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, ROWS), st.integers(0, ROWS))))
    first, last = sorted(data.draw(st.tuples(st.integers(0, COLUMNS), st.integers(0, COLUMNS))))
    fill = data.draw(st.sampled_from([None, 0.0, -999.0, np.nan]))
    hole = (slice(start, stop), slice(first, last))
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(PLACE, VALUES.shape, np.float32, chunks=chunks, fillvalue=fill)
        for row in range(0, ROWS, chunks[0]):
            for column in range(0, COLUMNS, chunks[1]):
                block = (slice(row, row + chunks[0]), slice(column, column + chunks[1]))
                inside = start <= row and row + chunks[0] <= stop and first <= column and column + chunks[1] <= last
                if not inside:  # chunks that lie in the hole are never written
                    dataset[block] = VALUES[block]
        lacks = dataset.id.get_num_chunks() < -(-ROWS // chunks[0]) * -(-COLUMNS // chunks[1])
    values = read_or_refused(path)
    assert hole is not None and (values is None) == lacks
    assert values is None or np.array_equal(values, VALUES)


HDF5_FAULTS: dict[str, Callable[[h5py.File, Draw], None]] = {
    "names": lambda file, draw: file[PLACE].attrs.__setitem__(
        "feature_names", draw(st.lists(st.text("ab"), max_size=6))
    ),
    "json names": lambda file, draw: file[PLACE].attrs.__setitem__(
        "feature_names", json.dumps(draw(st.one_of(st.none(), st.lists(st.one_of(st.integers(), st.text("ab"))))))
    ),
    "registry": lambda file, draw: file["features"].attrs.__setitem__("feature_registry", draw(st.text('{}[]:,"a1'))),
    "complete": lambda file, draw: file.attrs.__setitem__("complete", draw(st.sampled_from([0, False, "no"]))),
    "soft link": lambda file, draw: file.__setitem__(
        "features/x",
        h5py.SoftLink(draw(st.sampled_from(["/x", "/features", "/features/x", "summary", "", "/"])) or "/y"),
    ),
    "external": lambda file, draw: file.__setitem__(
        "features/x", h5py.ExternalLink(draw(st.sampled_from(["a.h5", "/etc/passwd", "/dev/zero", "none.h5"])), "/")
    ),
    "another family": lambda file, draw: file.__setitem__(
        "features/x/features", np.zeros(draw(st.lists(st.integers(0, 30), max_size=4)), draw(st.sampled_from("fiSc")))
    ),
    "null": lambda file, draw: file.__setitem__("features/x/features", h5py.Empty("f4")),
    "fields": lambda file, draw: file.__setitem__("inputs/fields", np.zeros((draw(st.integers(0, 30)), 1, 4, 4))),
    "fields of another kind": lambda file, draw: file.__setitem__("inputs/fields", h5py.SoftLink("/nowhere")),
    "type": lambda file, draw: file.__setitem__("features/x", np.dtype("f8")),
}


@settings(max_examples=inputs(60), deadline=None)
@given(st.data())
@bounded
def test_any_hdf5_file_with_one_thing_wrong(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("h") / "a.h5"
    with h5py.File(path, "w") as file:
        file[PLACE] = VALUES
        HDF5_FAULTS[data.draw(st.sampled_from(sorted(HDF5_FAULTS)))](file, data.draw)
    said = ""
    try:
        table = load_table(PrepareConfig(dataset=str(path)))
        assert np.array_equal(table.columns["summary"], VALUES)
    except DataError as error:
        said = str(error)
    assert "\n" not in said


# ---------------------------------------------------------------- tables


def csv_text() -> str:
    return pd.DataFrame(VALUES.astype(np.float64), columns=NAMES).to_csv(index=False)


@settings(max_examples=inputs(60), deadline=None)
@given(st.data())
@bounded
def test_any_csv_file_with_one_thing_wrong(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("c") / "a.csv"
    lines = csv_text().splitlines(keepends=True)
    number = data.draw(st.integers(1, ROWS))
    fields = lines[number].rstrip("\n").split(",")
    place = data.draw(st.integers(0, COLUMNS - 1))
    how = data.draw(st.sampled_from(["short", "long", "token", "quote", "cut", "index", "blank", "mixed ends"]))
    if how == "short":
        del fields[place]
    elif how == "long":
        fields.insert(place, "1")
    elif how == "token":
        fields[place] = data.draw(
            st.sampled_from(["x", "1,5,", "1;5", "--1", "0x1F", "1_0", "\x00", "#REF!", "1 2", "\x1b"])
        )
    elif how == "quote":
        fields[place] = '"' + fields[place]
    lines[number] = ",".join(fields) + "\n"
    text = "".join(lines)
    if how == "cut":
        text = text[: data.draw(st.integers(1, len(text) - 1))]
    elif how == "index":
        text = "".join(f"{at if at else 'Unnamed: 0'},{line}" for at, line in enumerate(lines))
    elif how == "blank":
        text = text.replace("\n", "\n\n")
    elif how == "mixed ends":
        text = text.replace("\n", "\r\n")
    path.write_text(text)
    values = read_or_refused(path)
    if how == "cut":
        rows = text.count("\n") - text.endswith("\n")
        # Without its line end a last row may be whole, and a last number whole too where others have as few digits.
        assert values is None or len(values) == rows
        assert values is None or np.array_equal(
            values.ravel()[: rows * COLUMNS - 1], VALUES.ravel()[: rows * COLUMNS - 1]
        )
    elif how in ("blank", "mixed ends"):
        assert values is not None and np.array_equal(values, VALUES)
    else:
        assert values is None


@settings(max_examples=inputs(40), deadline=None)
@given(st.data())
@bounded
def test_any_npz_file_with_one_thing_wrong(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("n") / "a.npz"
    others = st.sampled_from(
        [
            VALUES.astype(object),
            VALUES[:, 0],
            VALUES.astype("S"),
            np.array(3.0),
            VALUES[:3],
            np.array([]),
            VALUES[:, :0],
        ]
    )
    names = st.sampled_from([NAMES[:3], [NAMES], np.array(NAMES, object), np.arange(4), NAMES, [NAMES[0]] * 4, ""])
    arrays: dict[str, Any] = {"features": VALUES, "feature_names": NAMES}
    wrong = data.draw(st.sampled_from(["features", "feature_names"]))
    arrays[wrong] = data.draw(others if wrong == "features" else names)
    np.savez(path, **arrays)
    as_written(path)


KINDS = [pyarrow.float16(), pyarrow.float64(), pyarrow.decimal128(12, 3), pyarrow.string(), pyarrow.binary()]
KINDS += [pyarrow.list_(pyarrow.float32()), pyarrow.timestamp("s"), pyarrow.date32(), pyarrow.null(), pyarrow.int8()]


@settings(max_examples=inputs(40), deadline=None)
@given(st.data())
@bounded
def test_any_parquet_column_of_another_kind(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("p") / "a.parquet"
    kind = data.draw(st.sampled_from(KINDS))
    columns = {name: pyarrow.array(VALUES[:, column]) for column, name in enumerate(NAMES)}
    try:
        columns[NAMES[0]] = columns[NAMES[0]].cast(pyarrow.float64()).cast(kind, safe=False)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        columns[NAMES[0]] = pyarrow.nulls(ROWS, kind)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    values = read_or_refused(path)
    assert values is None or np.array_equal(values[:, 1:], VALUES[:, 1:])
