"""Files that are odd rather than broken: read with the right values, or refused in a line; never another table."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.config_file import load_config, parse_config
from spinlock_dist.data.load import load_batches, load_table
from spinlock_dist.documents import read_text
from spinlock_dist.errors import ConfigError, DataError

ROWS = 30
VALUES = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
NAMES = ["a", "b", "c"]
PLACE = "features/summary/features"


def read(path: Path, **settings: Any) -> np.ndarray:
    """All columns, `[N, D]`; read whole, in batches, and held to be the same."""
    config = PrepareConfig.model_validate({"dataset": str(path), **settings})
    [whole] = load_table(config).columns.values()
    batches = [next(iter(table.columns.values())) for table in load_batches(config, 7).tables]
    np.testing.assert_array_equal(np.concatenate(batches), whole)
    return whole


def refused(path: Path, said: str, **settings: Any) -> None:
    config = PrepareConfig.model_validate({"dataset": str(path), **settings})
    for reads in (lambda: load_table(config), lambda: list(load_batches(config, 7).tables)):
        with pytest.raises(DataError, match=said) as error:
            reads()
        assert "\n" not in str(error.value) and str(path.parent) in str(error.value)


# ---------------------------------------------------------------- NPZ


def member(array: np.ndarray, **how: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a version can be read by new numpy only
        np.lib.format.write_array(file, array, allow_pickle=False, **how)
    return file.getvalue()


def npz(path: Path, *members: tuple[str, bytes], **how: Any) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **how) as archive:
        warnings.simplefilter("ignore")  # that a name comes twice
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("most", [None, 2, 11, ROWS])
def test_columns_that_lie_together_are_read_as_far_as_asked(tmp_path: Path, most: int | None) -> None:
    path = npz(tmp_path / "t.npz", ("features.npy", member(np.asfortranarray(VALUES.astype(">f8")))))
    config = PrepareConfig(dataset=str(path), max_samples=most)
    found = np.concatenate([table.columns["table"] for table in load_batches(config, 7).tables])
    np.testing.assert_array_equal(found, VALUES[:most])
    if most != 2:  # too few to be trained on
        np.testing.assert_array_equal(read(path, max_samples=most), VALUES[:most])


@pytest.mark.parametrize(
    "how", [{"compression": zipfile.ZIP_LZMA}, {"compression": zipfile.ZIP_BZIP2}, {"version": (3, 0)}], ids=str
)
def test_every_way_of_packing_an_npz_is_read(tmp_path: Path, how: dict[str, Any]) -> None:
    version = how.pop("version", (1, 0))
    path = npz(tmp_path / "t.npz", ("features.npy", member(VALUES, version=version)), **how)
    np.testing.assert_array_equal(read(path), VALUES)


FEATURES = ("features.npy", member(VALUES))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("features.npy", member(VALUES * 0)), FEATURES], "has two arrays 'features'"),
        ([FEATURES, *[("feature_names.npy", member(np.array(NAMES)))] * 2], "has two arrays 'feature_names'"),
        ([("features.npy", FEATURES[1] + b"\0" * 12)], r"\[30, 3\] float32 would be 360 bytes, and there are 372"),
        ([("features.npy", FEATURES[1][:-12])], "would be 360 bytes, and there are 348"),
        ([("features.npy", FEATURES[1].replace(b"(30, 3)", b"(29, 3)"))], "would be 348 bytes, and there are 360"),
        ([("features.npy", FEATURES[1].replace(b"(30, 3)", b"(-3, 3)"))], "would be -36 bytes"),
        ([("features.npy", FEATURES[1].replace(b"\x01\x00", b"\x09\x00", 1))], r"version \(9, 0\)"),
        ([("features", FEATURES[1])], "no array 'features'"),
        ([FEATURES, ("feature_names.npy", member(np.array(["", "b", "c"])))], "column 1 of family 'table' has no name"),
        ([FEATURES, ("feature_names.npy", member(np.array(["a", "b\0x", "c"])))], "column 2 .* a null character"),
        ([FEATURES, ("feature_names.npy", member(np.array(["::a", "::b", "::c"])))], "a family has no name"),
    ],
)
def test_an_npz_that_is_two_tables_or_another_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], said: str
) -> None:
    refused(npz(tmp_path / "t.npz", *members), said)


# ---------------------------------------------------------------- parquet


def parquet(path: Path, columns: list[Any], names: list[str], metadata: dict[str, str] | None = None) -> Path:
    table = pyarrow.table(columns, names=names).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("{", "what pandas noted in it is damaged"),
        ("[1]", "what pandas noted in it is damaged"),
        ('{"index_columns": null}', "what pandas noted in it is damaged"),
        ('{"index_columns": ["a", "b", "c"]}', "no columns, only names of rows"),
    ],
)
def test_what_pandas_noted_is_not_guessed(tmp_path: Path, said: str, found: str) -> None:
    refused(parquet(tmp_path / "t.parquet", list(VALUES.T), NAMES, {"pandas": said}), found)


def test_a_parquet_file_without_columns_or_with_nested_ones_is_refused(tmp_path: Path) -> None:
    refused(parquet(tmp_path / "none.parquet", [], []), "the table has no columns")
    nested = pyarrow.array([{"x": 1.0}] * ROWS)
    refused(parquet(tmp_path / "t.parquet", [VALUES[:, 0], nested], ["a", "b"]), "not numeric: b")


@pytest.mark.parametrize("name", ["id", "sample_id", "#", "operator", "run number", "Index", "level_0"])
@pytest.mark.parametrize("order", [1, -1, 0])
def test_numbers_of_rows_are_no_feature_in_any_order(tmp_path: Path, name: str, order: int) -> None:
    numbers = np.arange(1, ROWS + 1)[::order] if order else np.random.default_rng(1).permutation(ROWS)
    path = parquet(tmp_path / "t.parquet", [numbers.astype(float), VALUES[:, 0]], [name, "b"])
    with pytest.raises(DataError, match=f"column '{name}' numbers the rows"):
        load_table(PrepareConfig(dataset=str(path)))


@pytest.mark.parametrize(
    ("name", "values"), [("id", np.arange(ROWS) // 2), ("refractive_index", VALUES[:, 0]), ("count", np.arange(ROWS))]
)
def test_a_feature_that_is_called_or_counts_so_stays(tmp_path: Path, name: str, values: np.ndarray) -> None:
    path = parquet(tmp_path / "t.parquet", [values.astype(float), VALUES[:, 0]], [name, "b"])
    np.testing.assert_array_equal(read(path)[:, 0], values.astype(np.float32))


# ---------------------------------------------------------------- CSV

BODY = "".join(",".join(f"{value:.9g}" for value in row) + "\n" for row in VALUES)


@pytest.mark.parametrize(
    "text",
    ["\n\na,b,c\n" + BODY, "\r\n\r\na,b,c\r\n" + BODY.replace("\n", "\r\n"), '\n"a\n\nx",b,c\n' + BODY],
    ids=["blank lines first", "with CRLF", "names over lines"],
)
def test_lines_before_and_within_the_names_are_counted(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(read(tmp_path / "t.csv"), VALUES)


def test_rows_longer_than_what_is_read_at_a_time_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinlock_dist.data.csv_table.BLOCK_BYTES", 1 << 10)
    wide = np.tile(VALUES, (1, 200))
    lines = [",".join(f"column_{column}" for column in range(600)), *(",".join(map(str, row)) for row in wide.tolist())]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(read(tmp_path / "t.csv"), wide)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (("a,b\n" + BODY).encode("utf-16"), "it is UTF-16 text; save it as UTF-8"),
        (("a,b\n" + BODY).encode("utf-16-le"), r"no UTF-8 text, or damaged \(null characters\)"),
        (b"caf\xe9,b,c\n" + BODY.encode(), r"not UTF-8 \(byte 0xe9\)"),
        (b"a,b,c\n" + BODY.encode() + b"caf\xe9,1,2\n", r"not UTF-8 \(byte 0xe9\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "a pointer of Git LFS.*git lfs pull"),
        (b"PK\x03\x04" + b"\0" * 60, "it is a zip archive"),
        (b'a,b,c\n"1,2,3\n' + BODY.encode(), "line 2: 1 values for the 3 columns"),
        (b"a\n1\n2\n\n" + b"3\n" * ROWS, "line 4 is empty; .* of a single column nobody can say which"),
        (b"a,b,c\n" + BODY.encode() + b"\0" * 4096, "line 32: 1 values for the 3 columns"),
    ],
)
def test_a_csv_that_is_none_says_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    refused(tmp_path / "t.csv", said)


def test_a_column_called_as_a_format_begins_is_one(tmp_path: Path) -> None:
    for name in ("PAR1", "CDF", "ARROW1"):
        (tmp_path / "t.csv").write_text(f"{name},b,c\n{BODY}")
        np.testing.assert_array_equal(read(tmp_path / "t.csv"), VALUES)


@pytest.mark.parametrize("suffix", ["h5", "npz", "parquet"])
def test_a_pointer_of_git_lfs_is_recognized(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"t.{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")
    refused(tmp_path / f"t.{suffix}", "git lfs pull fetches it")


# ---------------------------------------------------------------- HDF5


def hdf5(path: Path, values: np.ndarray = VALUES, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        file[PLACE] = values
        file[PLACE].attrs.update(attributes)
    return path


@pytest.mark.parametrize(
    ("kind", "attributes", "missing"),
    [
        ("f8", {"_FillValue": np.float32(1e20)}, 1e20),
        ("f4", {"_FillValue": np.float64(-999.9)}, -999.9),
        ("f4", {"_FillValue": "-999"}, -999),
        ("f4", {"missing_value": b"-999"}, -999),
        ("i4", {"_FillValue": np.int32(2**31 - 1)}, 2**31 - 1),
        ("f4", {"valid_range": [-100.0, 100.0]}, 500),
        ("f4", {"valid_min": -100.0}, -500),
        ("i4", {"valid_max": np.int16(100)}, 101),
    ],
)
def test_values_that_a_file_calls_missing_are_missing(
    tmp_path: Path, kind: str, attributes: dict[str, Any], missing: float
) -> None:
    values = (VALUES * 10).astype(kind)
    values[3, 1] = missing
    values[4, 1] = 99  # within every range
    found = read(hdf5(tmp_path / "t.h5", values, **attributes))
    assert np.argwhere(np.isnan(found)).tolist() == [[3, 1]] and found[4, 1] == 99


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"scale_factor": 0.01, "add_offset": 5.0}, "is packed .attribute scale_factor."),
        ({"add_offset": 1.0}, "is packed .attribute add_offset."),
        ({"_FillValue": "none"}, "attribute _FillValue of /.* is 'none', no number"),
    ],
)
def test_values_that_a_file_says_are_others_are_refused(tmp_path: Path, attributes: dict[str, Any], said: str) -> None:
    refused(hdf5(tmp_path / "t.h5", **attributes), said)


def test_attributes_that_say_nothing_change_nothing(tmp_path: Path) -> None:
    nothing = h5py.Empty("f4")
    path = hdf5(tmp_path / "t.h5", scale_factor=1.0, add_offset=0, _FillValue=nothing, valid_range=nothing)
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("said", [np.array([True, False]), b"False", "partial", "", float("nan"), "0.0"], ids=repr)
def test_a_file_that_is_complete_in_part_is_refused(tmp_path: Path, said: object) -> None:
    with h5py.File(hdf5(tmp_path / "t.h5"), "a") as file:
        file.attrs["complete"] = said
    refused(tmp_path / "t.h5", "says of itself that it is not complete")


def link_in_a_circle(file: h5py.File) -> None:
    file["features/other"] = h5py.ExternalLink(Path(file.filename).name, "/features/other")


def name_that_is_not_utf8(file: h5py.File) -> None:
    file["features"].create_group(b"caf\xe9").create_dataset("features", data=VALUES)


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (link_in_a_circle, "a link in it leads in a circle"),
        (name_that_is_not_utf8, "the name of a family in /features is not UTF-8"),
        (lambda file: file["features/summary"].create_group("feature_names"), "feature_names is no list of names"),
        (lambda file: file[PLACE].attrs.update(feature_names=["", "b", "c"]), "column 1 of family 'summary' has no"),
    ],
)
def test_what_cannot_be_followed_in_an_hdf5_file_is_named(
    tmp_path: Path, add: Callable[[h5py.File], Any], said: str
) -> None:
    with h5py.File(hdf5(tmp_path / "t.h5"), "a") as file:
        add(file)
    refused(tmp_path / "t.h5", said, linked_files=True)


def test_a_registry_nested_too_deeply_leaves_columns_their_places(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "t.h5", feature_registry="[" * 50_000)
    np.testing.assert_array_equal(read(path), VALUES)


# ---------------------------------------------------------------- YAML and JSON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: !!bool 1\n", "line 1: not valid YAML: 1 is neither true nor false"),
        ("seed: 0x" + "f" * 6000 + "\n", "a number of 6002 digits"),
        ("seed: " + "9" * 5000 + "\n", "a number of 5000 digits"),
        ("".join(f"%TAG !a{count}! tag:x{count}\n" for count in range(200_000)) + "---\n", "100 lines of directives"),
    ],
    ids=["no truth value", "hexadecimal", "decimal", "directives"],
)
def test_yaml_that_no_setting_needs_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read_text(text, "t.yaml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: yes\n", "line 1: seed: must be a number, is true"),
        ("training:\n  epochs: on\n", "line 2: training.epochs: must be a number, is true"),
        ("prepare: {max_samples: true}\n", "prepare.max_samples: must be a number"),
    ],
)
def test_a_truth_value_is_no_number(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "t.yaml")
    assert parse_config(TrialConfig, {"prepare": {"linked_files": True}}, "x").prepare.linked_files


def test_a_config_of_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_bytes("seed: 1\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="it is UTF-16 text; save it as UTF-8"):
        load_config(tmp_path / "t.yaml")
