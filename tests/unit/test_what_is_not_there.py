"""What a file does not hold is refused, never read as zeros or as missing; what it holds is read as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

import spinlock_dist.memory
from spinlock_dist.categories.discovery import discover_categories
from spinlock_dist.config import CategoriesConfig, CleaningConfig, PrepareConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
from spinlock_dist.features.cleaning import fit_cleaning
from spinlock_dist.prepare import prepare

ROWS = 40
PLACE = "features/summary/features"


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def load(path: Path, **settings: object) -> FeatureTable:
    return load_table(PrepareConfig.model_validate({"dataset": str(path), **settings}))


def refused(path: Path, said: str, **settings: object) -> None:
    with pytest.raises(DataError, match=said) as error:
        load(path, **settings)
    assert "\n" not in str(error.value) and str(path.parent) in str(error.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.h5"


# ---------------------------------------------------------------- HDF5: rows never written


@pytest.mark.parametrize("written", [0, 10, 15, 30])
def test_chunks_never_written_are_counted(path: Path, written: int) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(PLACE, (ROWS, 4), np.float32, chunks=(10, 2), fillvalue=0)
        if written:
            dataset[:written] = numbers(written, 4)
    whole = -(-written // 10) * 10
    refused(path, rf"/{PLACE}: {ROWS - whole} of {ROWS} rows were never written \(first: row {whole}\)")
    if written:
        table = load(path, max_samples=whole)  # what was written before them can be read
        np.testing.assert_array_equal(table.columns["summary"][:written], numbers(written, 4))


def test_a_hole_in_one_column_of_chunks_is_found(path: Path) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(PLACE, (ROWS, 4), np.float32, chunks=(8, 2))
        dataset[:] = numbers(ROWS, 4)
        hole = file.create_dataset("features/temporal/features", (ROWS, 4), np.float32, chunks=(8, 2))
        hole[:, :2] = numbers(ROWS, 2)
        hole[:16, 2:] = numbers(16, 2)
    refused(path, r"temporal/features: 24 of 40 rows were never written \(first: row 16\)")
    assert load(path, families={"summary": {"encoder": "identity"}}).columns["summary"].shape == (ROWS, 4)


def test_a_contiguous_dataset_never_written_is_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(PLACE, (ROWS, 4), np.float32)
    refused(path, "40 of 40 rows were never written")


def test_rows_added_by_a_resize_alone_are_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(PLACE, data=numbers(ROWS, 4), maxshape=(None, 4), chunks=(10, 4))
        dataset.resize((ROWS + 20, 4))
    refused(path, "20 of 60 rows were never written")


def test_initial_fields_never_written_are_refused_where_they_are_looked_at(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file[PLACE] = numbers(ROWS, 4)
        file.create_dataset("inputs/fields", (ROWS, 1, 8, 8), np.float32, chunks=(4, 1, 8, 8))[:20] = 1
    assert load(path).columns["summary"].shape == (ROWS, 4)
    refused(
        path, "inputs/fields: 20 of 40 rows were never written", families={"initial": {"encoder": "initial_hybrid"}}
    )


@pytest.mark.parametrize("said", [False, 0, "False"])
def test_a_file_that_says_it_is_not_complete_is_refused(path: Path, said: object) -> None:
    with h5py.File(path, "w") as file:
        file[PLACE] = numbers(ROWS, 4)
        file.attrs["complete"] = said
    refused(path, "says of itself that it is not complete")
    with h5py.File(path, "a") as file:
        file.attrs["complete"] = True
    assert len(load(path)) == ROWS


@pytest.mark.parametrize("how", ["_FillValue", "missing_value", "fillvalue"])
def test_values_that_stand_for_missing_ones_are_missing(path: Path, how: str) -> None:
    values = numbers(ROWS, 4).astype(np.float64)
    values[3, 1] = -999.9
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(PLACE, data=values, fillvalue=-999.9 if how == "fillvalue" else None)
        if how != "fillvalue":
            dataset.attrs[how] = np.array([-999.9])
    found = load(path).columns["summary"]
    assert np.isnan(found[3, 1]) and np.isnan(found).sum() == 1


# ---------------------------------------------------------------- HDF5: other files


def virtual(path: Path, sources: list[tuple[str, str, int]], rows: int = ROWS) -> None:
    """Write a dataset of `rows` rows made of blocks of other datasets: file, dataset and rows of each."""
    layout = h5py.VirtualLayout((rows, 4), np.float32)
    start = 0
    for name, place, count in sources:
        layout[start : start + count] = h5py.VirtualSource(name, place, (count, 4))
        start += count
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(PLACE, layout)


def test_a_virtual_dataset_of_its_own_file_is_read(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = numbers(30, 4), numbers(10, 4)
    virtual(path, [(".", "a", 30), (".", "b", 10)])
    np.testing.assert_array_equal(load(path).columns["summary"], np.concatenate([numbers(30, 4), numbers(10, 4)]))


def test_a_virtual_dataset_with_a_gap_is_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = numbers(30, 4)
    virtual(path, [(".", "a", 30)])
    refused(path, r"10 of 40 rows of this virtual dataset have no source \(first: row 30\)")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ((".", "nowhere", ROWS), "has no dataset nowhere, a source of the virtual"),
        ((".", "short", ROWS), "short .* is smaller than"),
        ((".", "unwritten", ROWS), "unwritten: 40 of 40 rows were never written"),
        ((".", PLACE, ROWS), "is a virtual dataset made, in the end, of itself"),
        (("other.h5", "x", ROWS), "lies in another file, .*other.h5"),
    ],
)
def test_a_virtual_dataset_without_its_sources_is_refused(path: Path, source: tuple[str, str, int], said: str) -> None:
    with h5py.File(path, "w") as file:
        file["short"] = numbers(ROWS - 1, 4)
        file.create_dataset("unwritten", (ROWS, 4), np.float32)
    virtual(path, [source])
    refused(path, said)


def test_sources_in_other_files_are_read_on_request(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = numbers(ROWS, 4)
    virtual(path, [("other.h5", "x", ROWS)])
    monkeypatch.chdir("/")  # the other file lies beside the first, wherever the program is
    np.testing.assert_array_equal(load(path, linked_files=True).columns["summary"], numbers(ROWS, 4))
    (tmp_path / "other.h5").unlink()
    refused(path, "other.h5: is not there, but .* lies in it", linked_files=True)


def test_external_links_and_storage_are_read_on_request_alone(path: Path, tmp_path: Path) -> None:
    values = numbers(ROWS, 4)
    values.tofile(tmp_path / "raw.bin")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x/features"] = values
    with h5py.File(path, "w") as file:
        file["features/summary"] = h5py.ExternalLink("other.h5", "/x")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset(PLACE, (ROWS, 4), np.float32, external=[("raw.bin", 0, values.nbytes)])
    for name, target in (("a.h5", "other.h5"), ("b.h5", "raw.bin")):
        refused(tmp_path / name, f"lies in another file, .*{target}; copy the data into the file")
        np.testing.assert_array_equal(load(tmp_path / name, linked_files=True).columns["summary"], values)
    one, other = (prepare(PrepareConfig(dataset=str(tmp_path / "a.h5"), linked_files=True)) for _ in range(2))
    assert one.fingerprint == other.fingerprint
    values[:30].tofile(tmp_path / "raw.bin")
    refused(tmp_path / "b.h5", "is shorter than the 640 bytes", linked_files=True)


@pytest.mark.parametrize("kind", ["fifo", "device", "/etc/passwd"])
def test_a_link_to_what_is_no_hdf5_file_ends_in_a_line(path: Path, tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    target = {"fifo": str(tmp_path / "fifo"), "device": "/dev/zero"}.get(kind, kind)
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink(target, "/x")
    refused(path, "lies in another file")
    with pytest.raises(DataError, match=r"is a device or a pipe|damaged"):
        load(path, linked_files=True)


def test_links_within_the_file_are_followed_and_named_where_they_lead_nowhere(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = numbers(ROWS, 4)
        file["features/summary/features"] = h5py.SoftLink("/x")
    np.testing.assert_array_equal(load(path).columns["summary"], numbers(ROWS, 4))
    with h5py.File(path, "a") as file:
        file["features/old"] = h5py.SoftLink("/nowhere")
    refused(path, "/features/old is a link to /nowhere, which is not there")
    with h5py.File(path, "a") as file:
        del file["features/old"]
        file["features/round"] = h5py.SoftLink("/features/round")
    refused(path, "/features/round is a link to")


# ---------------------------------------------------------------- HDF5: what else it says


@pytest.mark.parametrize("where", ["attribute", "group", "dataset", "json", "lines", "commas"])
def test_names_are_read_wherever_they_are_or_refused_with_both_counts(path: Path, where: str) -> None:
    for count in (4, 3):
        names = ["a", "b", "c", "d"][:count]
        with h5py.File(path, "w") as file:
            file[PLACE] = numbers(ROWS, 4)
            if where == "dataset":
                file["features/summary/feature_names"] = np.array(names, dtype="S")
            else:
                node = file["features/summary"] if where == "group" else file[PLACE]
                text = {"json": '["' + '", "'.join(names) + '"]', "lines": "\n".join(names), "commas": ", ".join(names)}
                node.attrs["feature_names"] = text.get(where, names)
        if count == 4:
            assert load(path).names["summary"] == ("a", "b", "c", "d")
    refused(path, "3 feature_names for the 4 columns")


@pytest.mark.parametrize("shape", [(10**6, 10**6), (2**40, 6)])
def test_more_than_the_machine_has_is_refused_with_its_size(path: Path, shape: tuple[int, int]) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(PLACE, shape, np.float32, chunks=(1000, 6))
    refused(path, r"would need [\d.e+]+ TB of memory")


def test_fields_of_another_length_and_null_spaces_are_refused(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "w") as file:
        file[PLACE] = numbers(ROWS, 4)
        file["inputs/fields"] = np.zeros((2, 1, 4, 4))
    refused(path, "2 initial fields .* for 40 rows")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file[PLACE] = h5py.Empty(np.float32)
    refused(tmp_path / "b.h5", "is empty")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file[PLACE] = np.dtype(np.float32)
    refused(tmp_path / "c.h5", "holds no feature array")


def test_a_file_open_for_writing_is_not_called_damaged(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file[PLACE] = numbers(ROWS, 4)
        file.flush()
        child = (
            f"from tests.unit.test_what_is_not_there import load; from pathlib import Path; load(Path({str(path)!r}))"
        )
        done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=False)
    assert "is open for writing in another process" in done.stderr


# ---------------------------------------------------------------- tables


def test_bools_with_gaps_decimals_and_dictionaries_are_numbers(tmp_path: Path) -> None:
    columns = {
        "bool": pyarrow.array([True, None, False, True] * 3),
        "decimal": pyarrow.array([Decimal("1.50"), Decimal("2.25"), None, Decimal("0.00")] * 3),
        "dictionary": pyarrow.array([1.5, 2.5, 1.5, None] * 3).dictionary_encode(),
        "half": pyarrow.array(np.arange(12, dtype=np.float16)),
        "large": pyarrow.array([2**63] * 12, pyarrow.uint64()),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    found = load(tmp_path / "t.parquet", max_samples=10)
    assert found.names["table"] == tuple(columns)
    expected = [[1, 1.5, 1.5, 0, 2.0**63], [np.nan, 2.25, 2.5, 1, 2.0**63], [0, np.nan, 1.5, 2, 2.0**63]]
    np.testing.assert_array_equal(found.columns["table"][:3], np.array(expected, np.float32))
    assert len(found) == 10


def test_saved_indices_are_no_features(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": numbers(ROWS, 1)[:, 0]}, index=np.arange(ROWS)[::-1])
    frame.to_parquet(tmp_path / "pandas.parquet")
    assert load(tmp_path / "pandas.parquet").names["table"] == ("a",)
    stripped = pyarrow.parquet.read_table(tmp_path / "pandas.parquet").replace_schema_metadata(None)
    pyarrow.parquet.write_table(stripped, tmp_path / "stripped.parquet")
    refused(tmp_path / "stripped.parquet", "column '__index_level_0__' numbers the rows")
    np.savez(tmp_path / "t.npz", features=np.stack([np.arange(1, 41), np.ones(40)], 1), feature_names=["row_id", "b"])
    refused(tmp_path / "t.npz", "column 'row_id' numbers the rows")
    np.savez(tmp_path / "t.npz", features=numbers(ROWS, 2), feature_names=["id", "b"])  # a name alone is no proof
    assert load(tmp_path / "t.npz").names["table"] == ("id", "b")


def test_npz_of_objects_and_npy_say_the_way_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", features=numbers(ROWS, 2), feature_names=np.array(["a", "b"], dtype=object))
    refused(tmp_path / "t.npz", r"'feature_names' holds Python objects; .*feature_names\.astype\(str\)")
    np.save(tmp_path / "t.npy", numbers(ROWS, 2))
    (tmp_path / "t.npy").rename(tmp_path / "t.npz")
    refused(tmp_path / "t.npz", r"is a \.npy, a single array without names; .*np\.savez")


@pytest.mark.parametrize("kind", ["npz", "parquet", "csv"])
def test_tables_beyond_the_memory_are_refused_by_their_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    frame = pd.DataFrame(np.zeros((10_000, 20)), columns=[f"c{column}" for column in range(20)])
    path = tmp_path / f"t.{kind}"
    writers: dict[str, Callable[[], object]] = {
        "npz": lambda: np.savez_compressed(path, features=frame.to_numpy()),
        "parquet": lambda: frame.to_parquet(path),
        "csv": lambda: frame.to_csv(path, index=False),
    }
    writers[kind]()
    monkeypatch.setattr(spinlock_dist.memory, "available_memory", lambda: 1_000_000)
    refused(path, r"would need [\d.]+ MB of memory, 1 MB are free")


def test_pipes_devices_and_folders_are_no_datasets(tmp_path: Path) -> None:
    for suffix in ("h5", "csv", "npz", "parquet"):
        os.mkfifo(tmp_path / f"pipe.{suffix}")
        refused(tmp_path / f"pipe.{suffix}", "is a device or a pipe, not a file")
        (tmp_path / f"link.{suffix}").symlink_to("/dev/zero")
        refused(tmp_path / f"link.{suffix}", "is a device or a pipe")
        (tmp_path / f"gone.{suffix}").symlink_to(tmp_path / "nowhere")
        refused(tmp_path / f"gone.{suffix}", "is a link to .*nowhere, which is not there")


@pytest.mark.parametrize("suffix", ["h5", "npz", "parquet"])
def test_a_format_under_anothers_name_is_recognized(tmp_path: Path, suffix: str) -> None:
    pd.DataFrame(numbers(ROWS, 2), columns=["a", "b"]).to_parquet(tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", features=numbers(ROWS, 2))
    wrong = (tmp_path / ("t.npz" if suffix == "parquet" else "t.parquet")).read_bytes()
    (tmp_path / f"wrong.{suffix}").write_bytes(wrong)
    refused(tmp_path / f"wrong.{suffix}", "it is a zip archive" if suffix == "parquet" else "it is a parquet file")


def test_csv_reads_words_for_truth_and_gaps(tmp_path: Path) -> None:
    lines = ['"a\nb",t,c\n', " 1.5 ,True,NA\n", "+2,false,-inf\n", ",,1e400\n", *["0,true,7\n"] * 9]
    (tmp_path / "t.csv").write_text("\ufeff" + "".join(lines), encoding="utf-8")
    found = load(tmp_path / "t.csv")
    assert found.names["table"] == ("a\nb", "t", "c")
    expected = [[1.5, 1, np.nan], [2, 0, -np.inf], [np.nan, np.nan, np.inf], [0, 1, 7]]
    np.testing.assert_array_equal(found.columns["table"][:4], expected)
    assert len(load(tmp_path / "t.csv", max_samples=11)) == 11


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_csv_cut_anywhere_in_its_last_rows_loses_no_row_in_silence(tmp_path: Path, cut: int) -> None:
    text = "a,b\n" + "".join(f"{row}.25,{row}.5\n" for row in range(20))
    kept = text[:-cut]
    (tmp_path / "t.csv").write_text(kept)
    if "\n" in (kept[-1], text[-cut]):  # cut between rows, or before a line end
        assert len(load(tmp_path / "t.csv")) == kept.rstrip().count("\n")
    else:
        refused(tmp_path / "t.csv", r"line \d+: .*(cut off)")


def test_pairs_of_too_many_columns_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinlock_dist.memory, "available_memory", lambda: 1_000_000)
    with pytest.raises(DataError, match=r"finding categories among 300 columns would need 2\.88 MB"):
        discover_categories(numbers(40, 300), CategoriesConfig())
    with pytest.raises(DataError, match=r"cleaning 40 training rows of 2000 columns would need"):
        fit_cleaning(numbers(40, 2000), ("x",) * 2000, ("t",) * 2000, CleaningConfig())
