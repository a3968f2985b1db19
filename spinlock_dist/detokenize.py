"""python -m spinlock_dist.detokenize: from a file of tokens back to features, in the units of the dataset."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spinlock_dist.command import command_parser
from spinlock_dist.errors import ConfigError, run_command
from spinlock_dist.memory import in_words
from spinlock_dist.outputs import check_output
from spinlock_dist.progress import row_progress

if TYPE_CHECKING:
    from spinlock_dist.tokenizer import Tokenizer

EXAMPLES = """examples:
  python -m spinlock_dist.detokenize runs/x/best/checkpoint tokens.parquet --out features.h5
  python -m spinlock_dist.detokenize runs/x/best/checkpoint tokens.h5 --out features.csv

Rows come in the order of the tokens. What cleaning left out is not there.
"""

BATCH_ROWS = 1 << 13
"""Rows in memory at a time."""


def main(argv: list[str] | None = None) -> int:
    """Parse, load, decode batch by batch, print what came of it."""
    args = make_parser().parse_args(argv)
    from spinlock_dist.data.feature_files import FEATURES, WRITERS, FeatureHead, writing_features

    check_output(args.out, FEATURES)
    if args.out.suffix.lower() not in WRITERS:
        raise ConfigError(f"--out {args.out}: features are written as {', '.join(WRITERS)}; end the name with one")
    from spinlock_dist.checkpoint import load_checkpoint
    from spinlock_dist.token_files import from_columns, open_tokens

    tokens = open_tokens(args.tokens)
    tokenizer = load_checkpoint(args.checkpoint, device=args.device)
    tokens.require_made_by(tokenizer)
    pipeline = tokenizer.pipeline
    head = FeatureHead(
        names=pipeline.feature_names, families=pipeline.families, rows=tokens.rows, origin=f"rebuilt from {args.tokens}"
    )
    began, done = time.perf_counter(), 0
    with row_progress("decoding", "decoded", "rows") as progress, writing_features(args.out, head) as write:
        for batch in tokens.batches(BATCH_ROWS):
            write(tokenizer.decode(from_columns(batch.tokens, tokenizer)))
            done += len(batch.rows)
            progress(done, tokens.rows)
    seconds, size = time.perf_counter() - began, args.out.stat().st_size
    if args.json:
        columns = len(pipeline.feature_names)
        print(json.dumps({"out": str(args.out), "rows": done, "columns": columns, "bytes": size, "seconds": seconds}))
    else:
        speed = f"{done / max(seconds, 1e-9):,.0f} rows a second"
        print(f"{args.out}: {done} rows of {_columns(tokenizer)}, {in_words(size)}, {speed}")
    return 0


def _columns(tokenizer: Tokenizer) -> str:
    """How many columns there are, and which of them are no features of the dataset but what an encoder made of them."""
    pipeline = tokenizer.pipeline
    ledger = pipeline.cleaning.ledger
    left_out = len(ledger) - len(pipeline.feature_names)
    encoded = [family for family, encoder in pipeline.encoders.items() if encoder.config.encoder != "identity"]
    said = f"{len(pipeline.feature_names)} columns"
    said += f" ({left_out} that cleaning dropped are not there)" if left_out else ""
    return said + (f"; those of {', '.join(encoded)} as encoded" if encoded else "")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "spinlock_dist.detokenize", "Rebuild features from tokens, in the units of the dataset.", EXAMPLES
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the one that made the tokens")
    parser.add_argument("tokens", type=Path, metavar="TOKENS", help="file that spinlock_dist.tokenize wrote")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="write here: .parquet, .h5, .npz or .csv"
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    return parser


if __name__ == "__main__":
    run_command(main)
