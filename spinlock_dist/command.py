"""What the parsers of several commands have in common."""

from __future__ import annotations

import argparse


def command_parser(command: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m <command>`, with examples below its options."""
    return argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, for a command that writes where it is told."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an output of this command there even if it is damaged or of an earlier version; nothing else",
    )
