"""`spinlock-dist COMMAND ...`: all commands under one name. Each is a module, which `python -m` runs too."""

from __future__ import annotations

import argparse
import runpy
import sys
from importlib.metadata import version

from spinlock_dist.command import COMMANDS, PROGRAM, typed


def main() -> None:
    """Run the command that is named first, with the arguments after it, as the module of it would be run."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Search for compression ratios that rebuild every feature category equally well.",
        epilog=_commands(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version(PROGRAM)}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below; it has a --help too")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    module, _ = COMMANDS[given.command]
    sys.argv = [typed(module), *given.arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=False)


def _commands() -> str:
    """A line a command."""
    width = max(map(len, COMMANDS))
    return "\n".join(["commands:", *(f"  {name:<{width}}  {purpose}" for name, (_, purpose) in COMMANDS.items())])


if __name__ == "__main__":
    main()
