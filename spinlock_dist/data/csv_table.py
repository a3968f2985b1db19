"""Reader of CSV tables: every row whole, every value a number or missing, and the line of the first that is not.

pandas fills short rows with missing values and guesses types; Arrow's reader refuses the one and is told the other.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv

from spinlock_dist.data.flat_table import FlatTable, not_numeric, reading, refuse_duplicates
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import really

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""What pandas reads as a missing value."""
WORDS = {"true": 1.0, "false": 0.0}
BLOCK_BYTES, ROW_BYTES = 1 << 22, 200
"""What is read at a time: of very many columns a row, the names above all, takes more than usual. Bytes; a column's."""
PER_BYTE = 6
"""Bytes of memory that a byte of a file takes: a value of two characters becomes a float64."""
COMPARED_ROWS = 1000
"""Whose last values a last one without a line end is compared with."""
LAST_BYTES = 4096
"""At the end of a file, in which its last value is."""


def open_csv_table(path: Path, max_samples: int | None) -> FlatTable:
    """The first rows of a CSV file whose first line names the columns.

    Raises `DataError` if it is not one; reading it raises one for a row of another length, a value that is no number,
    and a last line that looks cut off. Many tools leave out the end of the last line, so that alone is no reason.
    """
    with reading(path, "CSV file"):
        names, skipped = _header(path)
        size = path.stat().st_size
    return FlatTable(
        path=path,
        names=names,
        rows=None,
        parts=_parts(path, names, skipped, max_samples),
        needs=size * PER_BYTE,
        in_words="a file of this size",
    )


def _parts(path: Path, names: Sequence[str], skipped: int, max_samples: int | None) -> Iterator[np.ndarray]:
    """The rows after so many `skipped` lines, `[B, D]` float64 each."""
    done = 0
    with reading(path, "CSV file"):
        try:
            if len(names) == 1:
                _refuse_empty_lines(path)
            for values in _numbers(path, names, skipped):
                part = values[: None if max_samples is None else max_samples - done]
                done += len(part)
                yield part
                if done == max_samples:
                    return
            if _looks_cut(path, len(names)):
                raise pyarrow.ArrowInvalid("the last value looks cut off")
        except pyarrow.ArrowInvalid as error:
            _explain(path, names)  # raises, if it finds out what is wrong, with the line
            raise DataError(f"{path}: not a readable CSV file ({str(error).splitlines()[0]})") from None


def _header(path: Path) -> tuple[list[str], int]:
    """The names in the first line that is not empty, and the number of lines up to it, it included.

    Raises `DataError` unless it names the columns, each once.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        skipped, names = next(((place, row) for place, row in enumerate(csv.reader(file), 1) if row), (0, []))
    if any("\0" in name for name in names) or (names and names[0].startswith("version https://git-lfs")):
        raise DataError(
            f"{path}: not a CSV file: it is {really(path) or 'no UTF-8 text, or damaged (null characters)'}"
        )
    if not names:
        raise DataError(f"{path}: the file is empty; expected a line of column names and rows of numbers")
    if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
        raise DataError(f"{path}: commas must separate the columns; the first line is {names[0]!r}")
    if all(_number(name) is not None for name in names):
        raise DataError(f"{path}: the first line holds numbers; it must name the columns")
    unnamed = [place for place, name in enumerate(names, start=1) if not name.strip()]
    if unnamed:
        raise DataError(
            f"{path}: column {unnamed[0]} has no name; name it, or leave it out if it numbers the rows "
            "(pandas: to_csv(..., index=False))"
        )
    refuse_duplicates(path, names)
    return names, skipped


def _refuse_empty_lines(path: Path) -> None:
    """Raise `DataError` for an empty line between the values of a single column: it may be a missing one."""
    empty = 0
    with path.open("rb") as file:
        begun = False
        for place, line in enumerate(file, 1):
            if line.strip() and empty:
                raise DataError(
                    f"{path}: line {empty} is empty; remove it, or write nan if its value is missing: of a single "
                    "column nobody can say which"
                )
            begun = begun or bool(line.strip())
            empty = empty or (place if begun and not line.strip() else 0)


def _numbers(path: Path, names: Sequence[str], skipped: int) -> Iterator[np.ndarray]:
    """All rows as float64, block by block: as text from where a value is none that Arrow takes for a number."""
    done = 0
    try:
        for values in _blocks(path, names, skipped, pyarrow.float64()):
            yield values
            done += len(values)
        return
    except pyarrow.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
    for values in _blocks(path, names, skipped, pyarrow.string()):  # words for truth, or numbers as Python writes them
        known = min(done, len(values))
        done -= known
        yield values[known:]


def _blocks(path: Path, names: Sequence[str], skipped: int, kind: pyarrow.DataType) -> Iterator[np.ndarray]:
    numbers = [str(column) for column in range(len(names))]
    with open_csv(
        path,
        # Columns by number: names may hold line ends, and are known already.
        read_options=ReadOptions(
            block_size=max(BLOCK_BYTES, len(names) * ROW_BYTES), column_names=numbers, skip_rows_after_names=skipped
        ),
        parse_options=ParseOptions(newlines_in_values=True),
        convert_options=ConvertOptions(
            column_types=dict.fromkeys(numbers, kind),
            null_values=list(MISSING),
            strings_can_be_null=True,
        ),
    ) as reader:
        for batch in reader:
            yield np.stack([_floats(column) for column in batch.columns], axis=1)


def _floats(column: pyarrow.Array) -> np.ndarray:
    if pyarrow.types.is_floating(column.type):
        return column.to_numpy(zero_copy_only=False)
    values = [_number(text) if text is not None else np.nan for text in column.to_pylist()]
    if any(value is None for value in values):
        raise pyarrow.ArrowInvalid("a value is no number")
    return np.array(values, np.float64)


def _number(text: str) -> float | None:
    """A number, or 1 and 0 for true and false; None if the text is neither."""
    text = text.strip()
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _ends_its_last_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) in (b"\n", b"\r")


def _looks_cut(path: Path, columns: int) -> bool:
    """Whether a last value without a line end is empty, or has fewer digits than every other of its column.

    A number that was cut is another number, which nothing else shows. Of numbers that one program wrote the last is
    rarely the one with the fewest digits. A quote that is never closed is such an end too.
    """
    with path.open("rb") as file:
        file.seek(-min(LAST_BYTES, path.stat().st_size), os.SEEK_END)
        end = file.read().decode("utf-8", "replace")
    last = re.split(r"[,\r\n]", end.rstrip("\r\n"))[-1].strip()
    if last.count('"') % 2:
        return True
    if end.endswith(("\n", "\r")):
        return False
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = (row for row in csv.reader(file) if len(row) == columns)
        next(rows, None)  # the names
        others = [row[-1].strip() for row in islice(rows, COMPARED_ROWS + 1)][:-1]  # without the last row
    return not last or any(
        measure(last) < min(map(measure, others), default=0) for measure in (len, _characters_after_the_point)
    )


def _characters_after_the_point(text: str) -> int:
    return len(text.partition(".")[2])


def _explain(path: Path, names: Sequence[str]) -> None:
    """Raise `DataError` with the first line of a file that is not a row of as many numbers as there are names."""
    strange: dict[str, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        next((row for row in rows if row), None)
        line = rows.line_num
        for row in rows:
            first, line = line + 1, rows.line_num
            if row and len(row) != len(names):
                raise DataError(
                    f"{path}: line {first}: {len(row)} values for the {len(names)} columns that the first line names"
                    + ("; the file ends there: it may be cut off" if not _ends_its_last_line(path) else "")
                )
            for name, text in zip(names, row, strict=False):
                if name not in strange and text not in MISSING and _number(text) is None:
                    strange[name] = f"line {first}: {_shortened(text)}"
    if strange:
        raise DataError(f"{path}: {not_numeric(list(strange))} ({next(iter(strange.values()))})")
    if _looks_cut(path, len(names)):
        raise DataError(
            f"{path}: line {line}: the last value is empty, has fewer digits than every other of its column or a quote "
            "that is not closed, and no line end follows: the file may be cut off there; copy or write it again, or "
            "end that line if it is whole"
        )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else re.sub(r"\s+", " ", text[:40]) + "...")
