"""The commands by name, how they are typed in this shell, and what their parsers have in common."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

PROGRAM = "spinlock-dist"
COMMANDS = {
    "launch": ("study.launch", "run a study, or go on with it"),
    "status": ("study.status", "where studies stand, and what became of a trial"),
    "leaderboard": ("results.leaderboard", "the trials of a study, best first"),
    "report": ("results.report", "a study as a page"),
    "dashboard": ("study.dashboard", "a study in the Optuna dashboard"),
    "compare": ("results.compare", "studies side by side"),
    "export": ("results.export", "a trial as a config, for this program or for Spinlock"),
    "train": ("spinlock_dist.train", "train one tokenizer"),
    "diagnose": ("spinlock_dist.diagnose", "which categories a tokenizer rebuilds worst, and why"),
    "data": ("spinlock_dist.data_info", "what is in a dataset, and whether a training would take it"),
    "tokenize": ("spinlock_dist.tokenize", "rows as tokens, in a file"),
    "detokenize": ("spinlock_dist.detokenize", "tokens back to features"),
    "generate": ("spinlock_dist.generate", "simulate operators"),
    "check": (
        "study.check",
        "whether files can be used (configs, spaces, datasets, checkpoints, studies), or a cluster",
    ),
    "spaces": ("search_spaces.show", "the search spaces, and what one varies"),
}
"""Each command's module, which `python -m` runs too, and what it is for."""


def typed(module: str) -> str:
    """How the command of a module is typed in this shell.

    The name alone where it leads to this environment; else, as the environment is not active, with its path.
    """
    names = [name for name, (of_name, _) in COMMANDS.items() if of_name == module]
    if names and _in_environment(PROGRAM).exists():
        return f"{tool(PROGRAM)} {names[0]}"
    return f"{_short(Path(sys.executable))} -m {module}"


def tool(name: str) -> str:
    """How a program of this environment is typed in this shell: with its path unless the name alone leads there."""
    own = _in_environment(name)
    return _short(own) if own.exists() and shutil.which(name) != str(own) else name


def _in_environment(name: str) -> Path:
    return Path(sys.prefix) / "bin" / name


def _short(path: Path) -> str:
    """A path as it may be typed here: relative where it lies below the current folder."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


class CommandParser(argparse.ArgumentParser):
    """Says in two lines what is wrong with what was typed; the list of all options, which hides it, is for `--help`."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, naming the nearest option for one that there is not."""
        unknown = re.search(r"unrecognized arguments: (--[^\s=]+)", message)
        hint = _nearest(unknown[1], self._option_string_actions) if unknown else ""
        self.exit(2, f"error: {message}{hint}\nsee: {self.prog} --help\n")


def _nearest(option: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(option, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def command_parser(module: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of the command of a module, with examples below its options, as they are typed here."""
    command = typed(module)
    return CommandParser(
        prog=command,
        description=description,
        epilog=examples.replace(f"python -m {module}", command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, for a command that writes where it is told."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an output of this command there even if it is damaged or of an earlier version; nothing else",
    )
