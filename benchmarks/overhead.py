"""What a study costs beside its trials: wall time against the ideal and a plain Ray Tune script, and driver memory.

    python benchmarks/overhead.py                                       40 trials of 5 s on 2 slots, 200 and 2000 of 0 s
    python benchmarks/overhead.py --trials 6 --seconds 2 --trivial 40   a first look

Trials sleep instead of training. Ideal is the seconds of the rounds that the slots need, for the study with a round for
its baseline. Ray is started before any clock; preparing the data and writing results is counted. The plain script is
Tune with OptunaSearch over as many ranges, as its documentation has it. What a trial of 0 s costs is the time from the
start of the first to the end of the last over their number; memory is the driver's, before, after and at its peak.
Figures mean something on a machine that does nothing else: load comes first. Goals: ratio 1.10, 0.15 s a trial.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import ray
from measure import keep, tell_machine
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from results.records.optuna_trials import finished_trials, read_journal
from search_spaces import load_space
from search_spaces.space import Float
from spinlock_dist.config import PrepareConfig, TrainingConfig, TrialConfig
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from study import StudyConfig, run
from study.config import ClusterConfig, GuardsConfig

SPACE = "adaptive_compression"


def main() -> None:
    """Print one line a measurement, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--trivial", type=int, nargs="*", default=[200, 2000], help="trials of 0 s")
    args = parser.parse_args()
    ray.init(address="local", num_cpus=args.slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    known, found = tell_machine(), {}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.parquet"
        write_table(table)
        if args.trials:
            found |= compare(args.trials, args.seconds, args.slots, Path(folder))
        for trials in args.trivial:
            found |= trivial(trials, args.slots, Path(folder))
    ray.shutdown()
    keep("overhead", {"overhead": found}, known)


def compare(trials: int, seconds: float, slots: int, folder: Path) -> dict[str, float]:
    """Print wall time and ideal of a plain Tune script and of a study of the same trials; return their ratios."""
    ideal = math.ceil(trials / slots) * seconds
    found = show(f"plain Tune, {trials} trials of {seconds:g} s", plain(trials, seconds, slots, folder), ideal)
    config = make_config(f"study-{trials}", trials, slots, folder)
    began = time.monotonic()
    run(config, objective=make_objective(seconds))
    wall = time.monotonic() - began
    found |= show("study, its search alone", searched(config), ideal)
    ideal += math.ceil(config.baseline_seeds / slots) * seconds
    return found | show(f"study, {trials} trials and {config.baseline_seeds} baselines", wall, ideal)


def show(what: str, wall: float, ideal: float) -> dict[str, float]:
    """Print a wall time beside its ideal, and return their ratio."""
    print(f"{what:40s} {wall:7.1f} s   ideal {ideal:7.1f} s   ratio {wall / ideal:.3f}", flush=True)
    return {f"{what}, times the ideal": wall / ideal}


def plain(trials: int, seconds: float, slots: int, folder: Path) -> float:
    """Return the seconds that Tune with OptunaSearch takes over `trials` trials."""
    names = [name for name, parameter in load_space(SPACE).parameters.items() if isinstance(parameter, Float)]

    def trainable(config: dict[str, float]) -> None:
        time.sleep(seconds)
        tune.report({"loss": sum(config.values())})

    tuner = tune.Tuner(
        trainable,
        param_space={name: tune.uniform(0.0, 1.0) for name in names},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(),
            metric="loss",
            mode="min",
            num_samples=trials,
            max_concurrent_trials=slots,
        ),
        run_config=tune.RunConfig(name="plain", storage_path=str(folder / "plain"), verbose=0),
    )
    began = time.monotonic()
    tuner.fit()
    return time.monotonic() - began


def trivial(trials: int, slots: int, folder: Path) -> dict[str, float]:
    """Print seconds a trial of a study whose trials do nothing, and what the driver's memory comes to; return them."""
    config = make_config(f"trivial-{trials}", trials, slots, folder)
    before, busy = resident(), time.process_time()
    run(config, objective=make_objective(0.0))
    busy = time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, after, name = searched(config) / trials, resident(), f"study, {trials} trials of 0 s"
    print(
        f"{name:40s} {seconds:7.3f} s a trial   "
        f"driver {busy / trials:.3f} s of CPU a trial, {before:.0f} -> {after:.0f} MiB, at most {peak:.0f}",
        flush=True,
    )
    return {f"{name}, s a trial": seconds, f"{name}, MiB before": before, f"{name}, MiB after": after}


def searched(config: StudyConfig) -> float:
    """Return the seconds from the start of a study's first trial to the end of its last."""
    journal = read_journal(Path(config.runs) / config.name / "optuna.journal")
    ran = finished_trials(journal)
    last = max(trial.datetime_complete for trial in ran if trial.datetime_complete)
    return (last - min(trial.datetime_start for trial in ran if trial.datetime_start)).total_seconds()


def resident() -> float:
    """Return the MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def make_config(name: str, trials: int, slots: int, folder: Path) -> StudyConfig:
    """Return a study of `trials` trials on a small table, none of which is feasible: so there are no finals."""
    return StudyConfig(
        name=name,
        runs=str(folder / "runs"),
        space=SPACE,
        trials=trials,
        epochs=1,
        base=TrialConfig(
            prepare=PrepareConfig(dataset=str(folder / "table.parquet")), training=TrainingConfig(epochs=1)
        ),
        guards=GuardsConfig(fvu_worst_limit=0.1),
        cluster=ClusterConfig(gpus=0, max_concurrent=slots),
    )


def write_table(path: Path) -> None:
    """Write 300 rows of twelve columns in three correlated groups."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(300, 3)), 4, axis=1) + 0.5 * rng.normal(size=(300, 12))
    pd.DataFrame(values, columns=[f"summary::f{index}" for index in range(12)]).to_parquet(path)


def make_objective(seconds: float):
    """Return an objective that sleeps, and scores by the ratios' sharpness."""

    def objective(configs: Sequence[TrialConfig], data, report, snapshots) -> list[SimpleNamespace]:
        time.sleep(seconds)
        scores = [make_metrics(0.6 + 0.01 * config.compression.sharpness) for config in configs]
        report(
            {
                member: EpochMetrics(epoch=1, trained=1, finished=True, losses={}, validation=metrics, seconds=seconds)
                for member, metrics in enumerate(scores)
            }
        )
        return [outcome(metrics) for metrics in scores]

    def outcome(metrics: Metrics) -> SimpleNamespace:
        return SimpleNamespace(
            validation=metrics,
            save=lambda folder: folder.mkdir(parents=True, exist_ok=True),
            evaluate=lambda split: metrics,
        )

    return objective


def make_metrics(worst: float) -> Metrics:
    """Return healthy metrics of two categories, the worse of that FVU."""
    fvu = {"a": worst, "b": 0.1}
    healthy = dict.fromkeys(("utilization", "utilization_split", "perplexity_ratio", "entropy_ratio"), 1.0)
    ones = ("imbalance_by_chance", "reference_distance", "topographic_pre", "topographic_post")
    return Metrics(
        split="validation",
        fvu=fvu,
        mse_raw=fvu,
        reference_fvu=fvu,
        fvu_mean=(worst + 0.1) / 2,
        fvu_worst=worst,
        worst_category="a",
        imbalance=10 * worst,
        log10_imbalance=math.log10(10 * worst),
        imbalance_raw=10 * worst,
        reference_imbalance=10 * worst,
        gini=0.0,
        collapsed=0,
        dead_codes=0,
        bits_per_sample=10.0,
        **healthy,
        **dict.fromkeys(ones, 1.0),
    )


if __name__ == "__main__":
    main()
