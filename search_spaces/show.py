"""`python -m search_spaces.show`: list the search spaces, or show what one of them varies."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from search_spaces.reader import load_space, preset_names
from search_spaces.space import Categorical, Parameter, SearchSpace
from spinlock_dist.errors import run_command

EXAMPLES = """examples:
  python -m search_spaces.show                        list the search spaces that come with the package
  python -m search_spaces.show adaptive_compression   show one of them
  python -m search_spaces.show my_space.yaml --json   check a file of your own, for a script"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Raises `ConfigError` for a space that cannot be run."""
    parser = argparse.ArgumentParser(
        prog="python -m search_spaces.show",
        description="List the search spaces, or check one and show what it varies.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("space", nargs="?", metavar="NAME|FILE", help="name of a preset, or a YAML file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    names = [given.space] if given.space else preset_names()
    spaces = [load_space(name) for name in names]
    if given.json:
        described = [as_json(space) for space in spaces]
        print(json.dumps(described[0] if given.space else described, indent=2))
    elif given.space:
        Console().print(as_table(spaces[0]))
    else:
        Console().print(as_list(spaces))


def as_json(space: SearchSpace) -> dict[str, Any]:
    """Return the space as JSON-able data; `combinations` is null if a parameter is continuous."""
    return {
        "name": space.name,
        "description": space.description,
        "combinations": space.combinations(),
        "parameters": {
            name: {"type": type(parameter).__name__.lower(), **parameter.model_dump()}
            for name, parameter in space.parameters.items()
        },
        "fixed": space.fixed,
    }


def as_table(space: SearchSpace) -> Table:
    """Return a table of parameters with range, scale and number of values; fixed settings come last."""
    combinations = space.combinations()
    size = "continuous" if combinations is None else f"{combinations:,} combinations"
    table = Table(
        title=f"{space.name}: {space.description}", caption=size, title_justify="left", caption_justify="left"
    )
    table.add_column("parameter", no_wrap=True)
    for column in ("values", "scale", "count"):
        table.add_column(column)
    for name, parameter in space.parameters.items():
        count = parameter.count()
        table.add_row(
            name, values_text(parameter), scale_text(parameter), "continuous" if count is None else str(count)
        )
    for name, value in space.fixed.items():
        table.add_row(name, str(value), "fixed", "1")
    return table


def as_list(spaces: Sequence[SearchSpace]) -> Table:
    """Return one line for each space."""
    table = Table(box=None, show_header=False)
    for space in spaces:
        table.add_row(space.name, space.description)
    return table


def values_text(parameter: Parameter) -> str:
    """Return the values of a parameter, e.g. `0.1 .. 0.5` or `graded, spinlock`."""
    if isinstance(parameter, Categorical):
        return ", ".join(map(str, parameter.choices))
    return f"{parameter.low:g} .. {parameter.high:g}"


def scale_text(parameter: Parameter) -> str:
    """Return how a parameter is sampled: `choice`, `log`, `linear`, or `step 0.1`."""
    if isinstance(parameter, Categorical):
        return "choice"
    if parameter.log:
        return "log"
    return f"step {parameter.step:g}" if parameter.step else "linear"


if __name__ == "__main__":
    run_command(main)
