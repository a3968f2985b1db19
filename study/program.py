"""`spinlock-dist COMMAND ...`: all commands under one name. Each is a module, which `python -m` runs too."""

from __future__ import annotations

import argparse
import runpy
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

from spinlock_dist.command import COMMANDS, PROGRAM, CommandParser, typed

SHELLS = ("bash", "zsh", "tcsh")
STUDIES = "_spinlock_dist_studies"
PREAMBLE = {"bash": f'{STUDIES}() {{ compgen -W "$(ls runs 2>/dev/null)" -- "$1"; }}'}
"""What completions of a shell call: the names of the studies in `runs`."""
COMPLETION = f"""completion, once for each shell that you open:
  bash    eval "$({PROGRAM} --print-completion bash)"
  zsh     eval "$({PROGRAM} --print-completion zsh)"
"""


def main() -> None:
    """Run the command that is named first, with the arguments after it, as the module of it would be run."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Search for compression ratios that rebuild every feature category equally well.",
        epilog=f"{_commands()}\n\n{COMPLETION}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version(PROGRAM)}")
    parser.add_argument(
        "--print-completion", choices=SHELLS, action=_PrintCompletion, help="print what makes a shell complete commands"
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below; it has a --help too")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    module, _ = COMMANDS[given.command]
    sys.argv = [typed(module), *given.arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=False)


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of a command, by the command's name."""
    module, _ = COMMANDS[command]
    found = import_module(module)
    if hasattr(found, "__path__"):  # a package: its command is a module in it
        found = import_module(f"{module}.command")
    parser: argparse.ArgumentParser = found.make_parser()
    return parser


def completion(shell: str) -> str:
    """What makes a shell complete commands, options, their choices, files and the names of studies."""
    import shtab

    whole = argparse.ArgumentParser(prog=PROGRAM)
    whole.add_argument("--version", action="store_true")
    whole.add_argument("--print-completion", choices=SHELLS)
    commands = whole.add_subparsers()
    for name, (_, purpose) in COMMANDS.items():
        parser = parser_of(name)
        for action in parser._actions:
            _complete(action)
        commands.add_parser(name, parents=[parser], add_help=False, help=purpose)
    return shtab.complete(whole, shell, preamble=PREAMBLE.get(shell, ""))


def _complete(action: Any) -> None:
    """Say what an argument is completed with, where that can be told from its name."""
    import shtab

    metavar = str(action.metavar or "")
    if action.dest in ("name", "names"):
        action.complete = {"bash": STUDIES, "zsh": "_files -W runs -/"}
    elif any(word in metavar for word in ("FILE", "YAML", "CHECKPOINT", "DATASET", "TOKENS")):
        action.complete = shtab.FILE
    elif "FOLDER" in metavar:
        action.complete = shtab.DIRECTORY


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        print(completion(str(values)))
        parser.exit()


def _commands() -> str:
    """A line a command."""
    width = max(map(len, COMMANDS))
    return "\n".join(["commands:", *(f"  {name:<{width}}  {purpose}" for name, (_, purpose) in COMMANDS.items())])


if __name__ == "__main__":
    main()
