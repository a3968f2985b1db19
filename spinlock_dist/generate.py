"""python -m spinlock_dist.generate: simulate operators and write their features as an HDF5 dataset."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from spinlock_dist.command import command_parser
from spinlock_dist.config import SimulatorConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError, run_command
from spinlock_dist.outputs import OutputKind, check_output
from spinlock_dist.progress import row_progress

EXAMPLES = """examples:
  python -m spinlock_dist.generate --samples 10000 --out operators.h5
  python -m spinlock_dist.generate --samples 200 --grid 16 --steps 32 --out small.h5

Run the same command to resume an interrupted run.
"""

DATASET = OutputKind(name="a dataset", is_ours=lambda path: False)


def main(arguments: list[str] | None = None) -> int:
    """Parse `arguments`, generate the dataset, print one closing line. Returns the exit code."""
    options = make_parser().parse_args(arguments)
    given = {name: getattr(options, name) for name in SimulatorConfig.model_fields}
    config = parse_config(SimulatorConfig, given, "command line")
    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"command line: --workers must be at least 1, is {options.workers}")
    if not os.path.isfile(options.out):  # a finished dataset is kept, wherever it lies, and any other file refused
        check_output(options.out, DATASET)
    from spinlock_dist.simulator import generate_dataset  # imports torch: not for --help

    began = time.perf_counter()
    try:
        with row_progress("simulating", "simulated", "operators") as progress:
            generate_dataset(config, options.out, progress, options.workers)
    except KeyboardInterrupt:
        print("interrupted; run the same command to resume", file=sys.stderr)
        return 130
    print(f"{_describe(options.out)}, {time.perf_counter() - began:.1f} s")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    defaults = SimulatorConfig()
    parser = command_parser(
        "spinlock_dist.generate",
        "Simulate operators on a periodic grid and write their features as an HDF5 dataset.",
        EXAMPLES,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="HDF5 file to write")
    for name, text in {
        "samples": "operators",
        "grid": "side of the grid in cells",
        "steps": "time steps recorded",
        "realizations": "noise realizations of each operator",
        "seed": "decides parameters, kernels, initial fields and noise",
    }.items():
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default {default})")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per available core)")
    return parser


def _describe(path: Path) -> str:
    """Rows, columns by family and size of the dataset `path`."""
    import h5py

    from spinlock_dist.simulator.layout import FEATURE_PATHS

    with h5py.File(path) as file:
        shapes: dict[str, Any] = {family: file[place].shape for family, place in FEATURE_PATHS.items()}
    columns = ", ".join(f"{family} {' x '.join(map(str, shape[1:]))}" for family, shape in shapes.items())
    return f"{path}: {shapes['summary'][0]} operators ({columns}), {path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    run_command(main)
