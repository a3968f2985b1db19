"""What a study's search adds to plain `feedback`, on rows that no part of it has seen.

    python benchmarks/search_gain.py runs/d0 runs/d1 --fresh fresh.h5    each study's exported config against `feedback`

Plain `feedback` has the default settings, and the study's epochs. Both are trained with the same seeds on every fold
of the study's rows and scored on the fresh ones: an arm's worst category, mean error and imbalance are geometric means
over them. Where the exported config is plain `feedback` itself the ratio is 1. `replicates instead of trials` spends
the search on trainings of plain `feedback` that differ in their seed: of as many as a study has trials, the one with
the lowest imbalance on the validation rows.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from measure import keep, tell_machine
from strategies import _on_device, _with_test_rows

from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import load_config
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial
from spinlock_dist.training.evaluation import evaluate
from spinlock_dist.training.member import config_hash

FIGURES = ("fvu_worst", "fvu_mean", "imbalance")
RESAMPLES = 2000


def train(job: tuple[TrialConfig, int, int, str]) -> tuple[float, list[float]]:
    """Return the imbalance of one fold's model on its validation rows, and its figures on the fresh rows."""
    config, fold, seed, fresh = job
    data = prepare(config.prepare).fold(fold)
    outcome = run_trial(config.with_overrides({"seed": seed}), data)
    scored = _with_test_rows(data, fresh)
    [metrics] = evaluate(outcome.tokenizer.model, _on_device(scored, outcome.tokenizer.model), "test")
    return outcome.validation.imbalance, [getattr(metrics, name) for name in FIGURES]


def interval(logs: np.ndarray) -> str:
    """Return the geometric mean of ratios, and its bootstrap interval over studies."""
    drawn = np.random.default_rng(0).choice(logs, (RESAMPLES, len(logs))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{np.exp(logs.mean()):.3f} ({np.exp(low):.3f} to {np.exp(high):.3f})"


def ratios(logs: np.ndarray) -> dict[str, str]:
    """Return, of log ratios `[studies, figures]`, what `interval` says of each figure."""
    return {name: interval(logs[:, at]) for at, name in enumerate(FIGURES)}


def chosen_among(pool: list[tuple[float, list[float]]], trials: int) -> np.ndarray:
    """Return the log figures of the model with the lowest validation imbalance, for many draws of `trials` models."""
    validation, figures = np.array([each for each, _ in pool]), np.log([each for _, each in pool])
    generator = np.random.default_rng(0)
    draws = [generator.choice(len(pool), min(trials, len(pool)), replace=False) for _ in range(RESAMPLES)]
    return np.array([figures[draw[np.argmin(validation[draw])]] for draw in draws])


def main() -> None:
    """Print a line a study and the means, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--fresh", required=True, help="file of rows to score on")
    parser.add_argument("--seeds", type=int, default=4, help="trainings of a config on each fold")
    parser.add_argument("--trials", type=int, default=12, help="replicates to choose from instead of a search")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    known = tell_machine()
    exported = {study.name: load_config(study / "best" / "config.yaml") for study in args.studies}
    plain = {name: plain_feedback(config) for name, config in exported.items()}
    configs = {config_hash(seedless(each)): seedless(each) for each in (*exported.values(), *plain.values())}
    folds = next(iter(exported.values())).prepare.split.folds
    jobs = {
        key: [(config, fold, seed, args.fresh) for fold in range(folds) for seed in range(args.seeds)]
        for key, config in configs.items()
    }
    with ProcessPoolExecutor(args.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        flat = list(pool.map(train, [job for each in jobs.values() for job in each]))
    found = {key: [flat.pop(0) for _ in each] for key, each in jobs.items()}
    rows = [difference(found, exported[name], plain[name]) for name in exported]
    for name, row in zip(exported, rows, strict=True):
        print(
            f"{name:<12} "
            + "  ".join(f"{figure} {np.exp(each):.3f}" for figure, each in zip(FIGURES, row, strict=True))
        )
    by_chance = [
        chosen_among(found[config_hash(seedless(each))], args.trials).mean(axis=0)
        - mean_log(found[config_hash(seedless(each))])
        for each in plain.values()
    ]
    summary = {"search": ratios(np.array(rows)), "replicates instead of trials": ratios(np.array(by_chance))}
    for name, each in summary.items():
        print(f"{name} / plain feedback: " + "  ".join(f"{figure} {text}" for figure, text in each.items()))
    keep("search_gain", {"settings": {**vars(args), "studies": list(exported)}, "summary": summary}, known)


def plain_feedback(config: TrialConfig) -> TrialConfig:
    """Return `feedback` with the default settings, on the same data and for as many epochs."""
    return TrialConfig(prepare=config.prepare).with_overrides(
        {"compression.strategy": "feedback", "training.epochs": config.training.epochs, "training.device": "cpu"}
    )


def seedless(config: TrialConfig) -> TrialConfig:
    """Return the config without its training seed, so that equal ones are known as equal."""
    return config.with_overrides({"seed": 0, "training.device": "cpu"})


def mean_log(trained: Iterable[tuple[float, list[float]]]) -> np.ndarray:
    """Return the mean log of each figure on the fresh rows."""
    return np.log([figures for _, figures in trained]).mean(axis=0)


def difference(
    found: dict[str, list[tuple[float, list[float]]]], exported: TrialConfig, plain: TrialConfig
) -> np.ndarray:
    """Return the log ratio of each figure of the exported config to that of plain feedback."""
    one, other = (mean_log(found[config_hash(seedless(each))]) for each in (exported, plain))
    return one - other


if __name__ == "__main__":
    main()
