"""`python -m search_spaces.show`: list the search spaces, or show what one of them varies."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from search_spaces.reader import load_space, preset_names
from search_spaces.space import Categorical, Parameter, SearchSpace
from spinlock_dist.command import command_parser
from spinlock_dist.errors import run_command
from spinlock_dist.shown import terminal_console

EXAMPLES = """examples:
  python -m search_spaces.show                        list the search spaces that come with the package
  python -m search_spaces.show adaptive_compression   show one of them
  python -m search_spaces.show my_space.yaml --json   check a file of your own, for a script"""

VALUES_WIDTH = 24


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "search_spaces.show", "List the search spaces, or check one and show what it varies.", EXAMPLES
    )
    parser.add_argument("space", nargs="?", metavar="NAME|FILE", help="name of a preset, or a YAML file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Raises `ConfigError` for a space that cannot be run."""
    given = make_parser().parse_args(arguments)
    names = [given.space] if given.space else preset_names()
    spaces = [load_space(name) for name in names]
    if given.json:
        described = [as_json(space) for space in spaces]
        print(json.dumps(described[0] if given.space else described, indent=2))
    elif given.space:
        terminal_console().print(as_table(spaces[0]), highlight=False)
    else:
        terminal_console().print(as_list(spaces))


def as_json(space: SearchSpace) -> dict[str, Any]:
    """The space as JSON-able data; `combinations` is null if a parameter is continuous."""
    return {
        "name": space.name,
        "description": space.description,
        "combinations": space.combinations(),
        "parameters": {
            name: {"type": type(parameter).__name__.lower(), **parameter.model_dump(exclude_none=True)}
            for name, parameter in space.parameters.items()
        },
        "fixed": space.fixed,
    }


def as_table(space: SearchSpace) -> Group:
    """Tables of parameters with range, scale and number of values, and the size of the space.

    Those under a condition stand together below it; fixed settings come last.
    """
    width = max(map(len, {**space.parameters, **space.fixed}))
    shown: list[RenderableType] = [f"{space.name}: {space.description}", ""]
    for condition, names in _by_condition(space).items():
        table = _columns(width, header=not condition)
        for name in names:
            parameter = space.parameters[name]
            count = parameter.count()
            table.add_row(name, values_text(parameter), scale_text(parameter), "" if count is None else f"{count:,}")
        shown += [f"\nwhen {condition}:", table] if condition else [table]
    if space.fixed:
        table = _columns(width, header=False)
        for name, value in space.fixed.items():
            table.add_row(name, str(value), "fixed", "1")
        shown += ["", table]
    return Group(*shown, f"\n{size_text(space)}")


def _columns(width: int, header: bool) -> Table:
    table = Table(box=None, show_header=header, padding=(0, 0, 0, 2))
    table.add_column("parameter", no_wrap=True, min_width=width)
    table.add_column("values", width=VALUES_WIDTH)
    table.add_column("scale", no_wrap=True, min_width=8)
    table.add_column("count", no_wrap=True, justify="right", min_width=5)
    return table


def _by_condition(space: SearchSpace) -> dict[str, list[str]]:
    """The parameters by their condition in words, unconditional ones first."""
    groups: dict[str, list[str]] = {"": []}
    for name, parameter in space.parameters.items():
        groups.setdefault(condition_text(parameter), []).append(name)
    return groups


def condition_text(parameter: Parameter) -> str:
    """When a parameter applies, e.g. `compression.strategy is feedback`; empty if it always does."""
    conditions = (parameter.when or {}).items()
    return " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in conditions)


def size_text(space: SearchSpace) -> str:
    """The size of a space, e.g. `24 combinations` or `continuous, 14 to 19 of 22 parameters at a time`."""
    combinations = space.combinations()
    size = "continuous" if combinations is None else f"{combinations:,} combinations"
    dimensions = sorted({len(branch.names) for branch in space.branches()})
    if dimensions == [len(space.parameters)]:
        return f"{size}, {len(space.parameters)} parameters"
    fewest, most = dimensions[0], dimensions[-1]
    counted = f"{fewest} to {most}" if fewest < most else str(fewest)
    return f"{size}, {counted} of {len(space.parameters)} parameters at a time"


def as_list(spaces: Sequence[SearchSpace]) -> Table:
    """One line for each space."""
    table = Table(box=None, show_header=False)
    for space in spaces:
        table.add_row(space.name, space.description)
    return table


def values_text(parameter: Parameter) -> str:
    """The values of a parameter, e.g. `0.1 .. 0.5` or `graded, spinlock`."""
    if isinstance(parameter, Categorical):
        return ", ".join(map(str, parameter.choices))
    return f"{parameter.low:g} .. {parameter.high:g}"


def scale_text(parameter: Parameter) -> str:
    """How a parameter is sampled: `choice`, `log`, `linear`, or `step 0.1`."""
    if isinstance(parameter, Categorical):
        return "choice"
    if parameter.log:
        return "log"
    return f"step {parameter.step:g}" if parameter.step else "linear"


if __name__ == "__main__":
    run_command(main)
