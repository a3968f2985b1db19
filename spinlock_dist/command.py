"""The head that every command's parser has in common."""

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
