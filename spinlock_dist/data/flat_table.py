"""Flat tables: columns called `family::feature`, or of the one family `table`; read whole or in batches of rows.

Legend: N rows, B rows of a part, D columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import not_utf8, really
from spinlock_dist.memory import require_memory

FLAT_FAMILY = "table"
FLOAT32 = 4
FEWER = "read fewer rows (prepare.max_samples), or check what the file declares"
OWN = {".parquet": ("a parquet file",), ".npz": ("a zip archive, as .npz and .xlsx are",)}
OWN |= dict.fromkeys((".h5", ".hdf5", ".hdf"), ("an HDF5 file",))
"""What the first bytes of a file say that is what its suffix says."""
SAVED_INDEX = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")
"""What pandas calls an index that was saved as a column, in CSV and in parquet files."""
NUMBERING = re.compile(
    r"(.*[ ._-])?(index|idx|id|nr|no|num|number|row)|rows?|row(id|number|num|nr|index)|samples?|operators?|#|level_\d+",
    re.IGNORECASE,
)
"""What people call one; a column of such a name is one if its values are whole numbers, no two of them the same."""


@dataclass(frozen=True)
class FlatTable:
    """A table whose columns are known, and whose rows are read part by part, once."""

    path: Path
    names: Sequence[str]
    """Of the D columns, as the file has them."""
    rows: int | None
    """N; None where only reading to the end tells."""
    parts: Iterator[np.ndarray]
    """The rows in order, `[B, D]` numbers each. What is wrong with the file is raised on the way."""
    needs: int
    """Bytes of memory that reading it whole takes."""
    in_words: str
    """What takes them."""

    def whole(self) -> FeatureTable:
        """Read all rows. Raises `DataError` if there are none, or more than fit in memory."""
        require_memory(self.needs, f"{self.path}: {self.in_words}", DataError, FEWER)
        first = self._first()
        parts = chain([first], self.parts)
        values = np.concatenate(list(parts)) if self.rows is None else _filled(parts, self.rows, first)
        _refuse_row_numbers(self.path, self.names, values)
        return by_family(self.path, self.names, values)

    def batches(self, size: int) -> Iterator[FeatureTable]:
        """Read `size` rows at a time, and at the end those that are left. Raises `DataError` if there are none."""
        first = self._first()
        held, count = [first[:0]], 0
        for part in chain([first], self.parts):
            held.append(part)
            count += len(part)
            while count >= size:
                rows = np.concatenate(held)
                yield by_family(self.path, self.names, rows[:size])
                held, count = [rows[size:]], count - size
        if count:
            yield by_family(self.path, self.names, np.concatenate(held))

    def _first(self) -> np.ndarray:
        first = next((part for part in self.parts if len(part)), None)
        if first is None:
            raise DataError(f"{self.path}: the table has column names but no rows; add some")
        return first


def _filled(parts: Iterator[np.ndarray], rows: int, like: np.ndarray) -> np.ndarray:
    """All rows in one array that is made first: beside all parts there might be no room for it."""
    values = np.empty((rows, like.shape[1]), like.dtype)
    done = 0
    for part in parts:
        values[done : done + len(part)] = part
        done += len(part)
    return values


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises on bytes it cannot read into a `DataError`.

    Everything, since damage can surface in any layer: zip, zlib, Arrow, JSON, text encoding, array header.
    """
    try:
        yield
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a readable {kind}: {not_utf8(path, error)}") from None
    except Exception as error:
        found = f"; it is {really(path)}" if really(path) not in ("", *OWN.get(path.suffix.lower(), ())) else ""
        raise DataError(f"{path}: not a readable {kind} ({_first_line(error)}){found}") from None


def not_numeric(names: Sequence[str]) -> str:
    """What is said of columns that hold something else than numbers."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"columns that are not numeric: {', '.join(names[:5])}{more}; remove or encode them"


def _refuse_row_numbers(path: Path, names: Sequence[str], values: np.ndarray) -> None:
    """Raise `DataError` for a column that numbers the rows: pandas' saved index, or one called so that does."""
    for column, name in enumerate(names):
        if SAVED_INDEX.fullmatch(name) or (NUMBERING.fullmatch(name) and _numbers_rows(values[:, column])):
            raise DataError(
                f"{path}: column '{name}' numbers the rows and would be trained as a feature; remove it "
                "(pandas: index_col=0 in read_csv, reset_index(drop=True) before to_parquet, index=False in to_csv)"
            )


def _numbers_rows(values_N: np.ndarray) -> bool:
    """Whether all are whole numbers that differ, in whatever order: rows may have been sorted or drawn since."""
    return len(values_N) > 1 and bool((values_N % 1 == 0).all()) and len(np.unique(values_N)) == len(values_N)


def by_family(path: Path, names: Sequence[str], values: np.ndarray) -> FeatureTable:
    """The table of columns called `family::feature`, or of the one family `table`; values `[N, D]`."""
    split = [name.split("::", 1) if "::" in name else [FLAT_FAMILY, name] for name in names]
    members: dict[str, list[int]] = {}
    for column, (family, _) in enumerate(split):
        members.setdefault(family, []).append(column)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        columns = {family: values[:, index].astype(np.float32) for family, index in members.items()}
    own_names = {family: tuple(split[column][1] for column in index) for family, index in members.items()}
    return FeatureTable(columns=columns, names=own_names, source=str(path))


def refuse_duplicates(path: Path, names: Sequence[str]) -> None:
    """Raise `DataError` if two columns have one name."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{path}: more than one column is named {', '.join(map(repr, twice[:5]))}; rename them")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
