"""python -m spinlock_dist.tokenize: the tokens of every row of a dataset, as a file."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spinlock_dist.command import command_parser
from spinlock_dist.errors import ConfigError, run_command
from spinlock_dist.memory import in_words
from spinlock_dist.outputs import check_output
from spinlock_dist.progress import row_progress

if TYPE_CHECKING:
    from spinlock_dist.data.load import Batches
    from spinlock_dist.progress import Progress
    from spinlock_dist.token_files import TokenBatch
    from spinlock_dist.tokenizer import Tokenizer

EXAMPLES = """examples:
  python -m spinlock_dist.tokenize runs/x/best/checkpoint operators.h5 --out tokens.parquet
  python -m spinlock_dist.tokenize runs/x/best/checkpoint --out tokens.h5         what it was trained on

Back to features: python -m spinlock_dist.detokenize
"""

BATCH_ROWS = 1 << 13
"""Rows in memory at a time. Whole passes through the model: a row's tokens do not depend on where a batch begins."""


def main(argv: list[str] | None = None) -> int:
    """Parse, load, tokenize batch by batch, print what came of it."""
    args = make_parser().parse_args(argv)
    from spinlock_dist.token_files import SUFFIXES, TOKENS, TokenHead, token_columns, writing_tokens

    check_output(args.out, TOKENS)
    if args.out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {args.out}: tokens are written as {', '.join(SUFFIXES)}; end the name with one")
    from spinlock_dist.checkpoint import load_checkpoint
    from spinlock_dist.data.load import chosen_dataset, load_batches

    tokenizer = load_checkpoint(args.checkpoint, device=args.device)
    source = chosen_dataset(tokenizer.config.prepare, args.dataset, "DATASET")
    batches = load_batches(source, BATCH_ROWS)
    head = TokenHead(tokenizer.identity, source.dataset or "simulated operators", token_columns(tokenizer))
    with row_progress("tokenizing", "tokenized", "rows") as progress, writing_tokens(args.out, head) as write:
        done = tokenize(tokenizer, batches, write, progress)
    size = args.out.stat().st_size
    if args.json:
        print(json.dumps({"out": str(args.out), "checkpoint": head.checkpoint, "bytes": size, **asdict(done)}))
    else:
        print(f"{args.out}: {done.describe()}, {in_words(size)}")
    return 0


@dataclass(frozen=True, kw_only=True)
class Tokenized:
    """What came of tokenizing."""

    rows: int
    codebooks: int
    bits_per_sample: float
    """Paid: the sum over codebooks of log2 K."""
    bits_carried: float
    """The sum over codebooks of the entropy of their codes on these rows."""
    missing: int
    """Values that were missing: the training median stands for them."""
    seconds: float

    def describe(self) -> str:
        """All of it in words."""
        missing = f", {self.missing} missing values taken for medians" if self.missing else ""
        return (
            f"{self.rows} rows of {self.codebooks} tokens, {self.bits_carried:.1f} of {self.bits_per_sample:.1f} bits "
            f"carried{missing}, {self.rows / max(self.seconds, 1e-9):,.0f} rows a second"
        )


def tokenize(
    tokenizer: Tokenizer, batches: Batches, write: Callable[[TokenBatch], None], progress: Progress
) -> Tokenized:
    """Write the tokens of all rows, batch by batch; rows are numbered from 0.

    Raises `DataError` unless the dataset has the columns that the tokenizer was trained on.
    """
    from spinlock_dist.metrics.codebook_usage import codebook_usage
    from spinlock_dist.token_files import TokenBatch, as_columns, token_columns

    began, rows, missing = time.perf_counter(), 0, 0
    codes = [column.codes for column in token_columns(tokenizer)]
    counts = [np.zeros(count, np.int64) for count in codes]
    for table in batches.tables:
        tokens_BQ = as_columns(tokenizer.encode(table), tokenizer.plan)
        write(TokenBatch(np.arange(rows, rows + len(table)), tokens_BQ))
        rows += len(table)
        missing += sum(int((~np.isfinite(values)).sum()) for values in table.columns.values())
        for count, column in zip(counts, tokens_BQ.T, strict=True):
            count += np.bincount(column, minlength=len(count))
        progress(rows, batches.rows)
    return Tokenized(
        rows=rows,
        codebooks=len(codes),
        bits_per_sample=tokenizer.plan.bits_per_sample,
        bits_carried=sum(float(np.log2(codebook_usage(count).perplexity)) for count in counts),
        missing=missing,
        seconds=time.perf_counter() - began,
    )


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "spinlock_dist.tokenize", "Write the tokens of every row of a dataset, batch by batch.", EXAMPLES
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder that train or a study wrote")
    parser.add_argument(
        "dataset", nargs="?", metavar="DATASET", help="file with the columns it was trained on (default: that dataset)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="write here: .parquet or .h5")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    return parser


if __name__ == "__main__":
    run_command(main)
