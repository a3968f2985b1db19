"""What data costs: simulating operators, loading a dataset, preparing it, and how the latter grow with rows.

    python benchmarks/data.py                     500, 1,000 and 2,000 operators, the default study's
    python benchmarks/data.py --rows 2000 10000   more; datasets are simulated once and cached

Medians of three, on one thread, interleaved; simulating is timed once, on operators that no cache knows. All of it is
done once a study, whatever the number of trials.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measure import interleaved, keep, tell, tell_machine

from spinlock_dist.config import PrepareConfig, SimulatorConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.prepare import prepare
from spinlock_dist.simulator.dataset import cached_dataset, generate_dataset

SIMULATED = 256


def main() -> None:
    """Print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 1000, 2000])
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = tell_machine()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        generate_dataset(SimulatorConfig(samples=SIMULATED), Path(folder) / "operators.h5", workers=1)
        each = (time.perf_counter() - began) / SIMULATED
    dataset = str(cached_dataset(SimulatorConfig(samples=max(args.rows, default=2000))))
    arms: dict[str, Callable[[], object]] = {}
    for rows in args.rows:
        config = PrepareConfig(dataset=dataset, max_samples=rows)
        arms[f"load, s for {rows} rows"] = partial(load_table, config)
        arms[f"load and prepare, s for {rows} rows"] = partial(prepare, config)
    figures = {"simulate, ms an operator on one core": 1e3 * each, **interleaved(arms, repeats=3)}
    tell("data", figures)
    keep("data", {"data": figures}, known)


if __name__ == "__main__":
    main()
