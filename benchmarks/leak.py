"""What it leaks that all folds share what cleaning, normalization and categories are fitted on.

    make bench NAME=leak
    make bench NAME=leak ARGS="--dataset table.csv --splits 10"

The same rows train and the same others are scored, twice: with a preparation that was fitted on the training rows
alone, and with one that saw the scored rows too, as the folds of a study do. Printed are mean, worst and imbalance of
the second over the first: geometric means over splits, with the standard deviation over splits. 1 is no leak, less is a
score that looks better than it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from measure import keep, tell_machine

from spinlock_dist import prepare as preparation
from spinlock_dist.config import SimulatorConfig, TrialConfig
from spinlock_dist.run import run_trial
from spinlock_dist.simulator.dataset import cached_dataset
from spinlock_dist.split import Split

FIGURES = ("fvu_mean", "fvu_worst", "imbalance")


def rows_of_all_folds(split: Split) -> np.ndarray:
    """The training rows and those that are scored here."""
    return np.sort(np.concatenate([split.train, split.test]))


def scored(config: TrialConfig) -> list[float]:
    """The figures of a training on the test rows, from a preparation that `fitted_rows` decides on."""
    metrics = run_trial(config, preparation.prepare(config.prepare)).evaluate("test")
    return [getattr(metrics, name) for name in FIGURES]


def main() -> None:
    """Print a line a figure, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="default: simulated operators")
    parser.add_argument("--operators", type=int, default=2000)
    parser.add_argument("--splits", type=int, default=6)
    args = parser.parse_args()
    known = tell_machine()
    dataset = args.dataset or cached_dataset(SimulatorConfig(samples=args.operators))
    ratios, own_rows = [], preparation.fitted_rows
    for seed in range(args.splits):
        # A third of the rows is scored, as in a study of three folds; validation rows have no part in it.
        split = {"seed": seed, "folds": 1, "validation": 0.01, "test": 0.33}
        config = TrialConfig(seed=seed).with_overrides({"prepare.dataset": str(dataset), "prepare.split": split})
        try:
            preparation.fitted_rows = rows_of_all_folds
            shared = scored(config)
        finally:
            preparation.fitted_rows = own_rows
        ratios.append(np.log(shared) - np.log(scored(config)))
    found = {
        name: {"ratio": float(np.exp(each.mean())), "sd": float(each.std(ddof=1))}
        for name, each in zip(FIGURES, np.array(ratios).T, strict=True)
    }
    for name, each in found.items():
        print(f"{name:<10} x{each['ratio']:.3f}  (SD over splits {each['sd']:.3f})")
    keep("leak", {"settings": {**vars(args), "dataset": str(dataset)}, "ratios": found}, known)


if __name__ == "__main__":
    main()
