"""What each quantizer, and each codec without a network, leaves of real features at equal bits.

    python benchmarks/quantizers.py [--splits 3] [--seeds 1] [--strategies uniform waterfill] [--set model.hidden=64]
        [--arm quantizer.kind=fsq,quantizer.fsq_levels=5 ...] [--dataset FILE] [--epochs 40]

One line a run, then one table a strategy: figures of the EMA default on validation rows, and of every other arm the
difference to it in percent (codes in use in points, dead codes in codes), paired by split and seed, averaged over
seeds; mean and standard deviation over splits. `--arm` adds an arm, `--set` changes all of them.
LOG.md has what came out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import yaml

from spinlock_dist.baselines import CODECS, fit_codec, score_codec
from spinlock_dist.config import TrialConfig
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial

ARMS = {"ema": {}} | {
    f"fsq, {levels} values": {"quantizer.kind": "fsq", "quantizer.fsq_levels": levels} for levels in (2, 3, 4)
}
FIGURES = ("imbalance", "worst", "mean", "in use", "dead", "bits", "CPU s")
ABSOLUTE = [FIGURES.index("in use"), FIGURES.index("dead")]
Figures = dict[str, np.ndarray]
"""Figures by arm."""


def main() -> None:
    """Run every arm on every split and seed; print a table a strategy."""
    args = _parser().parse_args()
    torch.set_num_threads(1)
    arms = ARMS | {arm: dict(map(_assignment, arm.split(","))) for arm in args.arm}
    given = {"prepare.simulator.samples": 2000} | dict(map(_assignment, args.set))
    given |= {"training.epochs": args.epochs, "prepare.dataset": args.dataset}
    base = TrialConfig().with_overrides(given)
    found: dict[str, list[list[Figures]]] = {strategy: [] for strategy in args.strategies}
    for split in range(args.splits):
        data = prepare(base.with_overrides({"prepare.split.seed": split}).prepare)
        for strategy, splits in found.items():
            splits.append([])
            for seed in range(args.seeds):
                config = base.with_overrides({"compression.strategy": strategy, "seed": seed})
                splits[-1].append({})
                for arm, figures in _measure(config, data, arms):
                    splits[-1][-1][arm] = figures
                    line = "".join(f"{value:10.4g}" for value in figures)
                    print(f"split {split}  seed {seed}  {strategy:12s}{arm:60s}{line}", flush=True)
    for strategy, splits in found.items():
        _print_table(f"{strategy}, {args.splits} splits, {args.seeds} seeds", splits)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("splits", 3), ("seeds", 1), ("epochs", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dataset")
    parser.add_argument("--strategies", nargs="+", default=["uniform", "waterfill"])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--arm", action="append", default=[])
    return parser


def _assignment(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, yaml.safe_load(value)


def _measure(config: TrialConfig, data: PreparedData, arms: dict[str, dict]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the figures of every arm, then of every codec at the bits that the default quantizer has."""
    plan = None
    for name, overrides in arms.items():
        began = time.process_time()
        outcome = run_trial(config.with_overrides(overrides), data)
        yield name, _figures(outcome.validation, time.process_time() - began)
        plan = plan or outcome.tokenizer.plan
    assert plan is not None
    for name in CODECS:
        began = time.process_time()
        train_ND = data.values[data.split.train]
        codec = fit_codec(name, train_ND, data.categories, plan, config.seed, config.quantizer.beam)
        seconds = time.process_time() - began
        yield name, _figures(score_codec(codec, data, "validation"), seconds)


def _figures(score: Any, seconds: float) -> np.ndarray:
    errors = [score.imbalance, score.fvu_worst, score.fvu_mean]
    return np.array([*errors, 100 * score.utilization, score.dead_codes, score.bits_per_sample, seconds])


def _print_table(title: str, splits: list[list[Figures]]) -> None:
    first, *others = splits[0][0]
    print(f"\n{title:60s}" + "".join(f"{name:>16s}" for name in FIGURES), flush=True)
    absolute = np.array([[seeds[first] for seeds in split] for split in splits]).mean(axis=(0, 1))
    print(f"{first:60s}" + "".join(f"{value:16.4g}" for value in absolute))
    for arm in others:
        paired = np.array([np.mean([_against(run[arm], run[first]) for run in split], axis=0) for split in splits])
        spread = paired.std(axis=0, ddof=1) if len(paired) > 1 else np.full(len(FIGURES), np.nan)
        cells = (f"{mean:+9.1f} ± {sd:4.1f}" for mean, sd in zip(paired.mean(axis=0), spread, strict=True))
        print(f"{arm:60s}" + "".join(f"{cell:>16s}" for cell in cells))


def _against(figures: np.ndarray, reference: np.ndarray) -> np.ndarray:
    unit = reference / 100
    unit[ABSOLUTE] = 1
    return (figures - reference) / unit


if __name__ == "__main__":
    main()
