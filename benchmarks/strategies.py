"""Every strategy with every capacity at equal bits, rows, categories and epochs, on the test rows of several splits.

    python benchmarks/strategies.py                                              2,000 simulated operators
    python benchmarks/strategies.py --dataset operators.h5 --capacities codes    other data, one capacity
    python benchmarks/strategies.py --dataset digits                             scikit-learn's digits, or breast_cancer
    python benchmarks/strategies.py --fresh fresh.h5                             scored on rows that no split has seen

Prints a Markdown table: geometric means of the imbalance over the splits, means of the rest. A split has a training
seed of its own; categories are found on its training rows. The last row is the joint least-squares codec, which has
no network, with the bits of the strategy trained last. The reference figures are in docs/strategies.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from sklearn import datasets

from spinlock_dist.baselines import fit_codec, score_codec
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial
from spinlock_dist.training.evaluation import EvaluationData, evaluate

BUILT_IN = {"digits": datasets.load_digits, "breast_cancer": datasets.load_breast_cancer}
CAPACITIES = ("latent", "codes")
CODEC = "joint_least_squares"
Row = dict[str, float]


def main() -> None:
    """Train every arm on every split, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="file, digits or breast_cancer (default: simulated operators)")
    parser.add_argument("--fresh", help="file of rows to score on, in the place of each split's test rows")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--capacities", nargs="+", default=CAPACITIES)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of every arm")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = TrialConfig(prepare={"dataset": _file(args.dataset, Path(folder))})
        base = base.with_overrides(dict(setting.split("=", 1) for setting in args.set), "--set")
        # `uniform` is the same with every capacity: it moves nothing.
        arms = [
            (strategy, capacity)
            for capacity, strategy in product(args.capacities, args.strategies)
            if strategy != "uniform" or capacity == args.capacities[0]
        ]
        jobs = [
            (base, strategy, capacity, split, args.fresh) for strategy, capacity in arms for split in range(args.splits)
        ]
        with ProcessPoolExecutor(args.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            rows = list(pool.map(_train, jobs))
    _print_header(args.splits, "Fresh rows" if args.fresh else "Test rows")
    for arm, (strategy, capacity) in enumerate(arms):
        _print_row(strategy, capacity, [row for row, _ in rows[arm * args.splits : (arm + 1) * args.splits]])
    _print_row(CODEC, f"as {arms[-1][0]}", [codec for _, codec in rows[-args.splits :]])


def _file(dataset: str | None, folder: Path) -> str | None:
    if dataset not in BUILT_IN:
        return dataset
    columns = BUILT_IN[dataset](as_frame=True).data
    np.savez(folder / "table.npz", features=columns.to_numpy("float32"), feature_names=np.array(columns.columns, "U"))
    return str(folder / "table.npz")


def _train(job: tuple[TrialConfig, str, str, int, str | None]) -> tuple[Row, Row]:
    base, strategy, capacity, split, fresh = job
    settings = {"compression.strategy": strategy, "compression.capacity": capacity}
    config = base.with_overrides({**settings, "prepare.split.seed": split, "seed": split})
    data = prepare(config.prepare)
    began = time.process_time()
    outcome = run_trial(config, data)
    seconds = time.process_time() - began
    train_ND = data.values[data.split.train]
    codec = fit_codec(CODEC, train_ND, data.categories, outcome.tokenizer.plan, split, config.quantizer.beam)
    scored = _with_test_rows(data, fresh) if fresh else data
    [of_network] = evaluate(outcome.tokenizer.model, _on_device(scored, outcome.tokenizer.model), "test")
    of_codec = score_codec(codec, scored, "test")
    network, other = ({name: getattr(score, name) for name in COLUMNS} for score in (of_network, of_codec))
    return network | {"seconds": seconds}, other | {"seconds": float("nan")}


def _with_test_rows(data: PreparedData, path: str) -> PreparedData:
    """The same training rows, and those of a file in the place of the others."""
    table = load_table(PrepareConfig(dataset=path))
    train_ND, fresh_ND = data.values[data.split.train], data.pipeline.transform(table)
    rows, none = np.arange(len(train_ND) + len(fresh_ND)), np.arange(0)
    split = replace(data.split, train=rows[: len(train_ND)], validation=none, test=rows[len(train_ND) :])
    return replace(data, values=np.concatenate([train_ND, fresh_ND]), split=split)


def _on_device(data: PreparedData, model: HierarchicalVQVAE) -> EvaluationData:
    values = torch.from_numpy(np.array(data.values))
    return EvaluationData(
        values_ND=data.values,
        grouped_NGF=model.layout.pack(values.to(model.layout.mask)),
        split=data.split,
        categories=data.categories,
        characteristics=data.characteristics,
        pipeline=data.pipeline,
    )


COLUMNS = {
    "imbalance": "imbalance",
    "imbalance_by_chance": "by chance",
    "fvu_worst": "worst FVU",
    "fvu_mean": "mean FVU",
    "utilization": "utilization",
    "dead_codes": "dead codes",
    "bits_per_sample": "bits",
}
"""Metrics, and their headings; the last column of the table is the processor's seconds of a trial."""


def _print_header(splits: int, scored: str) -> None:
    print(f"\n{scored}, {splits} splits\n")
    print("| strategy | capacity | " + " | ".join(COLUMNS.values()) + " | seconds |")
    print("|---|---|" + "--:|" * (len(COLUMNS) + 1), flush=True)


def _print_row(strategy: str, capacity: str, rows: Iterable[Row]) -> None:
    rows = list(rows)
    cells = []
    for name in COLUMNS:
        values = np.array([row[name] for row in rows])
        geometric = name.startswith("imbalance")
        mean = float(np.exp(np.log(values).mean()) if geometric else values.mean())
        cells.append(f"{mean:.2f}" if geometric else f"{mean:.3f}" if name.startswith("fvu") else f"{mean:.4g}")
    seconds = np.mean([row["seconds"] for row in rows])
    cells.append("" if np.isnan(seconds) else f"{seconds:.1f}")
    print(f"| {strategy} | {capacity} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
