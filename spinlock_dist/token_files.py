"""Tokens on disk: for every row a number a codebook, in a .parquet or .h5 file that says what they mean.

Parquet: a column `row` and one column a codebook, called `category::level` (`cluster_1::L0`, the second codebook of a
level `cluster_1::L0.2`). HDF5: `row` `[N]`, `tokens` `[N, Q]`, and for the Q codebooks `category`, `level`, `codebook`
and `codes` `[Q]`. Tokens are unsigned integers of 8, 16 or 32 bits, as few as the codes allow.

Legend: N rows, B rows of a batch, Q codebooks that are switched on, C categories, L levels, S codebooks of a level.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet

from spinlock_dist.atomic_files import replacing
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import LEVELS
from spinlock_dist.data.flat_table import reading
from spinlock_dist.data.hdf5_links import node_at
from spinlock_dist.data.hdf5_presence import require_written
from spinlock_dist.errors import DataError
from spinlock_dist.inputs import require_file
from spinlock_dist.outputs import OutputKind, saying_why

if TYPE_CHECKING:
    from spinlock_dist.tokenizer import Tokenizer

FORMAT_VERSION = 1
MARK = "spinlock_dist.tokens"
"""The entry of a file's metadata that makes it one of tokens."""
ROW = "row"
SUFFIXES = (".parquet", ".h5", ".hdf5")
COMPRESSION = "zstd"
CHUNK_ROWS = 1 << 13
"""Of an HDF5 file: what is packed together."""


class TokenColumn(NamedTuple):
    """The tokens of one codebook."""

    category: str
    level: str
    """`L0`, `L1` or `L2`."""
    codebook: int
    """Its number within the level, from 1."""
    codes: int

    @property
    def name(self) -> str:
        """`cluster_1::L0`, and from the second codebook of a level on `cluster_1::L0.2`."""
        return f"{self.category}::{self.level}" + (f".{self.codebook}" if self.codebook > 1 else "")


@dataclass(frozen=True)
class TokenHead:
    """What a file of tokens says of them."""

    checkpoint: str
    """The identity of the tokenizer that made them."""
    dataset: str
    """What they were made of, for people."""
    columns: tuple[TokenColumn, ...]

    @property
    def dtype(self) -> np.dtype:
        """The smallest kind of unsigned integer that holds every token."""
        return np.min_scalar_type(max((column.codes for column in self.columns), default=1) - 1)


class TokenBatch(NamedTuple):
    """Some rows: their numbers in the dataset `[B]` int64 and their tokens `[B, Q]`."""

    rows: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True)
class TokenFile:
    """An opened file of tokens: what it says, the number of its rows, and a way to read them."""

    path: Path
    head: TokenHead
    rows: int

    def batches(self, size: int) -> Iterator[TokenBatch]:
        """Read `size` rows at a time, and at the end those that are left. Raises `DataError` where it is damaged."""
        codes = np.array([column.codes for column in self.head.columns])
        done = 0
        with reading(self.path, "file of tokens"):
            for batch in (_parquet_batches if _is_parquet(self.path) else _hdf5_batches)(self, size):
                beyond = np.argwhere((batch.tokens < 0) | (batch.tokens >= codes))
                if len(beyond):
                    row, column = beyond[0]
                    raise DataError(
                        f"{self.path}: damaged: token {batch.tokens[row, column]} in place {done + row} lies beyond "
                        f"its codebook, {self.head.columns[column].name} of {codes[column]} codes"
                    )
                yield batch
                done += len(batch.rows)

    def require_made_by(self, tokenizer: Tokenizer) -> None:
        """Raise `DataError` unless this tokenizer made the tokens."""
        if self.head.checkpoint != tokenizer.identity:
            raise DataError(
                f"{self.path}: made by another checkpoint ({self.head.checkpoint[:12]}; this one is "
                f"{tokenizer.identity[:12]}); name the one that made it, or tokenize anew"
            )
        if self.head.columns != token_columns(tokenizer):
            raise DataError(f"{self.path}: damaged: its codebooks are not those of the checkpoint that made it")


def token_columns(tokenizer: Tokenizer) -> tuple[TokenColumn, ...]:
    """The codebooks of a tokenizer that are switched on, category by category, coarse to fine."""
    names = [category.name for category in tokenizer.categories]
    return tuple(
        TokenColumn(names[category], LEVELS[level], book + 1, codes)
        for (category, level, book), _, codes in tokenizer.plan.codebooks()
    )


def as_columns(tokens: np.ndarray, plan: CapacityPlan) -> np.ndarray:
    """Tokens `[N, C, L]` or `[N, C, L, S]` as those of the codebooks that are switched on, `[N, Q]`."""
    return tokens.reshape(len(tokens), -1)[:, _places(plan)]


def from_columns(tokens_NQ: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """What `Tokenizer.decode` takes, from tokens `[N, Q]`: int64, zero for what is switched off."""
    found = np.zeros((len(tokens_NQ), tokenizer.plan.codes.size), np.int64)
    found[:, _places(tokenizer.plan)] = tokens_NQ
    return found.reshape(len(found), *tokenizer.token_shape)


def _places(plan: CapacityPlan) -> np.ndarray:
    places = [place for place, _, _ in plan.codebooks()]
    return np.ravel_multi_index(tuple(np.array(places).T), plan.codes.shape)


# ---------------------------------------------------------------- writing


@contextmanager
def writing_tokens(path: Path, head: TokenHead) -> Iterator[Callable[[TokenBatch], None]]:
    """Yield what writes a batch of rows after the last one; the file is there once the block ends without an error.

    Raises `SpinlockError` if it cannot be written.
    """
    with saying_why(path), replacing(path) as draft, (_parquet if _is_parquet(path) else _hdf5)(draft, head) as write:
        yield write


@contextmanager
def _parquet(draft: Path, head: TokenHead) -> Iterator[Callable[[TokenBatch], None]]:
    content = {"format_version": FORMAT_VERSION, "checkpoint": head.checkpoint, "dataset": head.dataset}
    content["columns"] = [column._asdict() for column in head.columns]
    fields = [(column.name, pyarrow.from_numpy_dtype(head.dtype)) for column in head.columns]
    schema = pyarrow.schema([(ROW, pyarrow.int64()), *fields], metadata={MARK: json.dumps(content)})
    with pyarrow.parquet.ParquetWriter(
        draft, schema, compression=COMPRESSION, write_page_checksum=True, store_schema=True
    ) as writer:

        def write(batch: TokenBatch) -> None:
            columns = batch.tokens.astype(head.dtype).T
            writer.write_batch(pyarrow.record_batch([batch.rows, *columns], schema=schema))

        yield write


@contextmanager
def _hdf5(draft: Path, head: TokenHead) -> Iterator[Callable[[TokenBatch], None]]:
    # Of the latest layout, whose tables of contents have checksums, and text of fixed length: strings of any length lie
    # in a heap without one, and the library may never return from a damaged one.
    with h5py.File(draft, "w", libver="latest") as file:
        texts = {"checkpoint": head.checkpoint, "dataset": head.dataset}
        file.attrs.update({MARK: FORMAT_VERSION, **{name: np.bytes_(text.encode()) for name, text in texts.items()}})
        for name in ("category", "level"):
            file[name] = np.array([getattr(each, name).encode() for each in head.columns])
        for name in ("codebook", "codes"):
            file[name] = np.array([getattr(each, name) for each in head.columns], np.int64)
        packed: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
        wide = len(head.columns)
        rows = file.create_dataset(ROW, (0,), np.int64, maxshape=(None,), chunks=(CHUNK_ROWS,), **packed)
        tokens = file.create_dataset(
            "tokens", (0, wide), head.dtype, maxshape=(None, wide), chunks=(CHUNK_ROWS, wide), **packed
        )

        def write(batch: TokenBatch) -> None:
            for dataset, values in ((rows, batch.rows), (tokens, batch.tokens)):
                done = len(dataset)
                dataset.resize(done + len(values), axis=0)
                dataset[done:] = values

        yield write


# ---------------------------------------------------------------- reading


def open_tokens(path: Path | str) -> TokenFile:
    """Read what a file says of its tokens. Raises `DataError` if it is none, damaged, or of a later version."""
    path = Path(path)
    require_file(path, DataError)
    with reading(path, "file of tokens"):
        head, rows = (_parquet_head if _is_parquet(path) else _hdf5_head)(path)
    if not rows:
        raise DataError(f"{path}: has no rows of tokens")
    if not head.columns or len({column.name for column in head.columns}) < len(head.columns):
        raise DataError(f"{path}: damaged: it names no codebook, or one twice")
    return TokenFile(path, head, rows)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _require_version(path: Path, version: Any) -> None:
    if version is None:
        raise DataError(f"{path}: holds no tokens that spinlock_dist.tokenize wrote; name a file that does")
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: tokens of format version {version!r}, this program reads {FORMAT_VERSION}")


def _parquet_head(path: Path) -> tuple[TokenHead, int]:
    with pyarrow.parquet.ParquetFile(path) as file:
        found = (file.schema_arrow.metadata or {}).get(MARK.encode())
        content = json.loads(found) if found else {}
        _require_version(path, content.get("format_version"))
        columns = tuple(TokenColumn(**column) for column in content["columns"])
        lacking = {ROW, *(column.name for column in columns)} - set(file.schema_arrow.names)
        if lacking:
            raise DataError(f"{path}: damaged: no column '{min(lacking)}'")
        if not all(isinstance(content[name], str) for name in ("checkpoint", "dataset")):
            raise DataError(f"{path}: damaged: 'checkpoint' and 'dataset' are not texts")
        return TokenHead(content["checkpoint"], content["dataset"], columns), file.metadata.num_rows


HDF5_KINDS = {"category": "S", "level": "S", "codebook": "iu", "codes": "iu", ROW: "iu", "tokens": "iu"}
"""What the datasets of an HDF5 file hold, as kinds of numpy's: texts of a fixed length, or whole numbers."""


def _hdf5_head(path: Path) -> tuple[TokenHead, int]:
    with h5py.File(path, "r") as file:
        _require_version(path, file.attrs.get(MARK))
        held = {name: _held(file, name, path) for name in HDF5_KINDS}
        names = ([text.decode() for text in held[name][:]] for name in ("category", "level"))
        numbers = (held[name][:].tolist() for name in ("codebook", "codes"))
        columns = tuple(TokenColumn(*each) for each in zip(*names, *numbers, strict=True))
        rows, tokens = held[ROW], held["tokens"]
        if tokens.shape != (len(rows), len(columns)):
            raise DataError(f"{path}: damaged: tokens {list(tokens.shape)} of {len(rows)} rows")
        checkpoint, dataset = (file.attrs[name].decode() for name in ("checkpoint", "dataset"))
        return TokenHead(checkpoint, dataset, columns), len(rows)


def _held(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """A dataset of an HDF5 file of tokens. Raises `DataError` unless it is in the file, whole and of its kind."""
    dataset = node_at(file, name, path, linked=None)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in HDF5_KINDS[name]:
        raise DataError(f"{path}: damaged: '{name}' is not there, or not of its kind")
    require_written(dataset, path, None, linked=None)
    return dataset


def _parquet_batches(source: TokenFile, size: int) -> Iterator[TokenBatch]:
    names = [ROW, *(column.name for column in source.head.columns)]
    with pyarrow.parquet.ParquetFile(source.path, page_checksum_verification=True, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=size, columns=names):
            rows, *tokens = (batch.column(name) for name in names)
            yield TokenBatch(_integers(rows), np.stack([_integers(each) for each in tokens], axis=1))


def _integers(column: pyarrow.Array) -> np.ndarray:
    if not pyarrow.types.is_integer(column.type) or column.null_count:
        raise ValueError("a token is missing or no integer")
    return column.to_numpy()


def _hdf5_batches(source: TokenFile, size: int) -> Iterator[TokenBatch]:
    with h5py.File(source.path, "r") as file:
        for start in range(0, source.rows, size):
            rows = slice(start, start + size)
            yield TokenBatch(file[ROW][rows], file["tokens"][rows])


def _holds_tokens(path: Path) -> bool:
    try:
        return bool(open_tokens(path))
    except DataError:
        return False


TOKENS = OutputKind(name="a file of tokens", is_ours=_holds_tokens)
"""What `spinlock_dist.tokenize --out` writes."""
