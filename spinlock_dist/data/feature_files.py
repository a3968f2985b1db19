"""Features written batch by batch, in every format that the readers read: .parquet, .h5, .npz and .csv.

Legend: N rows, B rows of a batch, D columns.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
from pyarrow.csv import CSVWriter, WriteOptions

from spinlock_dist.atomic_files import replacing
from spinlock_dist.outputs import OutputKind, saying_why

MARK = "spinlock_dist.features"
"""The entry of a file's metadata, or the array of an .npz, that says the features in it were rebuilt from tokens."""
CHUNK_ROWS = 1 << 10
"""Of an HDF5 file: what is packed together."""

Write = Callable[[np.ndarray], None]
"""Takes the next rows, `[B, D]`."""


@dataclass(frozen=True, kw_only=True)
class FeatureHead:
    """What features there are, and where from."""

    names: Sequence[str]
    """D names `family::feature`; those of a family lie together."""
    families: Sequence[str]
    """Their families."""
    rows: int
    """N."""
    origin: str
    """What they were rebuilt from, for people."""


@contextmanager
def writing_features(path: Path, head: FeatureHead) -> Iterator[Write]:
    """Yield what writes the next rows, as float32; the file is there once the block ends without an error.

    Raises `SpinlockError` if it cannot be written.
    """
    with saying_why(path), replacing(path) as draft, WRITERS[path.suffix.lower()](draft, head) as write:
        yield write


@contextmanager
def _parquet(draft: Path, head: FeatureHead) -> Iterator[Write]:
    schema = pyarrow.schema([(name, pyarrow.float32()) for name in head.names], metadata={MARK: head.origin})
    with pyarrow.parquet.ParquetWriter(draft, schema, compression="zstd", write_page_checksum=True) as writer:
        yield lambda values: writer.write_batch(_batch(values, schema))


@contextmanager
def _csv(draft: Path, head: FeatureHead) -> Iterator[Write]:
    schema = pyarrow.schema([(name, pyarrow.float32()) for name in head.names])
    with draft.open("wb") as file:
        with open(file.fileno(), "w", encoding="utf-8", newline="", closefd=False) as text:
            csv.writer(text, lineterminator="\n").writerow(head.names)
        with CSVWriter(file, schema, write_options=WriteOptions(include_header=False)) as writer:
            yield lambda values: writer.write_batch(_batch(values, schema))


def _batch(values_BD: np.ndarray, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    return pyarrow.record_batch(list(values_BD.astype(np.float32).T), schema=schema)


@contextmanager
def _npz(draft: Path, head: FeatureHead) -> Iterator[Write]:
    with zipfile.ZipFile(draft, "w") as archive:
        for name, array in (("feature_names", np.array(head.names)), (MARK, np.array(head.origin))):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        with archive.open("features.npy", "w", force_zip64=True) as file:
            shape = (head.rows, len(head.names))
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})

            def write(values: np.ndarray) -> None:
                file.write(np.ascontiguousarray(values, "<f4").tobytes())

            yield write


@contextmanager
def _hdf5(draft: Path, head: FeatureHead) -> Iterator[Write]:
    columns = {family: [at for at, each in enumerate(head.families) if each == family] for family in head.families}
    with h5py.File(draft, "w") as file:
        file.attrs[MARK] = head.origin
        datasets = {}
        for family, places in columns.items():
            group = file.create_group(f"features/{family}")
            names = [head.names[at].removeprefix(f"{family}::") for at in places]
            group.create_dataset("feature_names", data=names, dtype=h5py.string_dtype())
            shape = (head.rows, len(places))
            chunks = (min(CHUNK_ROWS, max(head.rows, 1)), len(places))
            datasets[family] = group.create_dataset("features", shape, np.float32, chunks=chunks, fletcher32=True)
        done = 0

        def write(values: np.ndarray) -> None:
            nonlocal done
            for family, places in columns.items():
                datasets[family][done : done + len(values)] = values[:, places]
            done += len(values)

        yield write


WRITERS: dict[str, Callable[[Path, FeatureHead], AbstractContextManager[Write]]] = {
    ".parquet": _parquet,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".npz": _npz,
    ".csv": _csv,
}
"""By the ending of the file's name."""


def _was_rebuilt(path: Path) -> bool:
    """Whether features in a file were rebuilt from tokens; a CSV cannot say so, so that one is never replaced."""
    try:
        if path.suffix.lower() == ".parquet":
            return MARK.encode() in (pyarrow.parquet.read_schema(path).metadata or {})
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                return f"{MARK}.npy" in archive.namelist()
        if path.suffix.lower() == ".csv":
            return False
        with h5py.File(path, "r") as file:
            return MARK in file.attrs
    except (OSError, ValueError, pyarrow.ArrowException, zipfile.BadZipFile):
        return False


FEATURES = OutputKind(name="a file of rebuilt features", is_ours=_was_rebuilt)
"""What `spinlock_dist.detokenize --out` writes."""
