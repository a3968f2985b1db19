"""Record real trials over a search space, for `benchmarks/samplers.py` to answer samplers from.

    python benchmarks/record_trials.py [--space adaptive_compression] [--points 256] [--rows 500] [--epochs 12]

Trains the points of a Sobol sequence over the space on simulated operators, in lock step by eights, and the uniform
baseline: every second epoch of each is a row. What is recorded already is kept, so that it may be stopped and started.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy.stats import qmc
from units import from_unit

from search_spaces import SearchSpace, load_space
from spinlock_dist.atomic_files import replacing
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import DivergedError
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_members

OUT = Path(__file__).parent / "trials.parquet"
BASELINE = -1
"""Point of the uniform baseline, which has no parameters."""
TOGETHER = 8
KEPT = (
    "fvu_worst",
    "fvu_mean",
    "log10_imbalance",
    "utilization",
    "perplexity_ratio",
    "bits_per_sample",
    "collapsed",
)
"""What stopping, objective and guards read."""


def main() -> None:
    """Train what is missing and write after every eight."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="adaptive_compression")
    parser.add_argument("--points", type=int, default=256)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    space = load_space(args.space)
    settings = {
        "prepare.simulator.samples": 2000,
        "prepare.max_samples": args.rows,
        "training.epochs": args.epochs,
        "training.evaluate_every": 2,
    }
    base = space.to_config(TrialConfig().with_overrides(settings), {}).with_overrides(settings)
    points = {BASELINE: {"compression.strategy": "uniform"}, **dict(enumerate(design(space, args.points)))}
    known = pd.read_parquet(args.out) if args.out.exists() else pd.DataFrame({"point": []})
    missing = [point for point in points if point not in set(known["point"])]
    data = prepare(base.prepare)
    for start in range(0, len(missing), TOGETHER):
        batch = missing[start : start + TOGETHER]
        configs = [space.to_config(base, points[p]) if p >= 0 else base.with_overrides(points[p]) for p in batch]
        curves: list[list[EpochMetrics]] = [[] for _ in batch]
        outcomes = run_members(configs, data, partial(keep, curves))
        rows = [
            row
            for point, curve, outcome in zip(batch, curves, outcomes, strict=True)
            for row in rows_of(point, points[point], curve, isinstance(outcome, DivergedError))
        ]
        known = pd.concat([known, pd.DataFrame(rows)], ignore_index=True)
        with replacing(args.out) as draft:
            known.astype({"point": "int32", "epoch": "int32", "trained": "int32"}).to_parquet(
                draft, index=False, compression="zstd"
            )
        print(f"{known['point'].nunique()} of {len(points)} points", flush=True)


def keep(curves: list[list[EpochMetrics]], made: Mapping[int, EpochMetrics]) -> tuple[()]:
    """Take what was measured, and stop nothing."""
    for member, metrics in made.items():
        curves[member].append(metrics)
    return ()


def design(space: SearchSpace, count: int) -> Iterator[dict[str, Any]]:
    """Yield the first `count` points of a scrambled Sobol sequence, each with the parameters that count there."""
    for point in qmc.Sobol(len(space.parameters), scramble=True, rng=0).random(count):
        values: dict[str, Any] = {}
        for (name, parameter), unit in zip(space.parameters.items(), point, strict=True):
            if space.counts(name, values):
                values[name] = from_unit(parameter, unit)
        yield values


def rows_of(point: int, params: dict[str, Any], curve: list[EpochMetrics], diverged: bool) -> Iterator[dict[str, Any]]:
    """Yield a row a report; a training that diverged ends in one without figures."""
    known = {"point": point, "params": json.dumps(params)}
    for report in curve:
        reached = {"epoch": report.epoch, "trained": report.trained}
        yield {**known, **reached, **{name: float(getattr(report.validation, name)) for name in KEPT}}
    if diverged:
        yield {**known, "epoch": curve[-1].epoch + 1 if curve else 1, "trained": curve[-1].trained + 1 if curve else 1}


if __name__ == "__main__":
    main()
