"""Does a study keep many slots busy, and what do 10,000 trials cost its driver, its storage and its commands?

    python benchmarks/scale.py                          both parts: 8 nodes x 8 logical GPUs, and 10,000 trials
    python benchmarks/scale.py --parts slots            only the first; its 64 worker processes need 12 GB
    python benchmarks/scale.py --nodes 2 --trials 500   a first look

Trials sleep instead of training. `slots`: trials of 20 to 60 s (log-uniform) on a simulated cluster; the share of the
time in which a slot runs a trial, from when all have begun their first until the last trial begins. `trials`: trials of
0 s, `--members` to a trial batch, drawn at random since TPE takes longer the more trials it learns from, into the
journal, and a tenth as many into SQLite, which takes longer for each: seconds a trial early and late, the driver's
memory, the storage's size, and what `study.status` and a resume then take. Goal: 95 % busy. `growth`: 2,000 trials of
0 s, each alone; the driver's memory, open files, threads and processes after a quarter of them and after all.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import ray
from measure import keep, tell, tell_machine
from overhead import make_config, make_metrics, make_objective, resident, write_table
from ray.cluster_utils import Cluster
from rich.console import Console

from results.records.optuna_trials import finished_trials, open_search, record_of
from results.records.study_folder import StudyFolder
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import EpochMetrics
from study import StudyConfig, run
from study.config import ClusterConfig

GPUS = 8
SECONDS = (20.0, 60.0)
PARTS = ("slots", "trials", "growth")
GROWTH = 2_000
WAVES = 5
"""Trials a slot, on average."""


def main() -> None:
    """Print a table a part, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=("slots", "trials"))
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--members", type=int, default=16)
    args = parser.parse_args()
    known, found = tell_machine(), {}
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "table.parquet")
        if "slots" in args.parts:
            found["slots"] = slots(args.nodes, Path(folder))
            tell(f"{args.nodes * GPUS} slots", found["slots"])
        if "trials" in args.parts:
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            for name, trials in (("journal", args.trials), ("sqlite", args.trials // 10)):
                found[name] = many(name, trials, args.members, Path(folder))
                tell(f"{trials} trials, {name}", found[name])
            ray.shutdown()
        if "growth" in args.parts:
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            found["growth"] = growth(min(args.trials, GROWTH), Path(folder))
            tell("the driver as a study grows", found["growth"])
            ray.shutdown()
    keep("scale", found, known)


# ---------------------------------------------------------------- slots


def slots(nodes: int, folder: Path) -> dict[str, float]:
    """Run a study on a simulated cluster, and return how busy it was kept."""
    count = nodes * GPUS
    cluster = Cluster()
    for _ in range(nodes):
        cluster.add_node(num_cpus=GPUS, num_gpus=GPUS, include_dashboard=False)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    config = make_config("slots", WAVES * count, count, folder)
    config = config.model_copy(update={"cluster": ClusterConfig(gpus=count, members_per_trial=1)})
    began = time.monotonic()
    run(config, objective=sleep_a_while)
    wall = time.monotonic() - began
    intervals = list(slept(config))
    ray.shutdown()
    cluster.shutdown()
    first = sorted(start for start, _ in intervals)[count - 1]
    last = max(start for start, _ in intervals)
    busy = sum(max(0.0, min(end, last) - max(start, first)) for start, end in intervals)
    return {
        "busy, share": busy / (count * (last - first)),
        "trials": len(intervals),
        "s in which all slots could run": last - first,
        "s until every slot had begun": first - min(start for start, _ in intervals),
        "s in all, baseline included": wall,
    }


def sleep_a_while(configs: Sequence[TrialConfig], data, report, snapshots) -> list[SimpleNamespace]:
    """Stand in for the core: a trial's sharpness says how long it takes, and its curve when it ran."""
    low, high = SECONDS
    sharpness = configs[0].compression.sharpness
    share = (sharpness * 1000) % 1
    began = time.time()
    time.sleep(low * (high / low) ** share)
    metrics, losses = make_metrics(0.6 + 0.01 * sharpness), {"began": began, "ended": time.time()}
    made = EpochMetrics(epoch=1, trained=1, finished=True, losses=losses, validation=metrics, seconds=0.0)
    report({0: made})
    return [
        SimpleNamespace(
            validation=metrics,
            save=lambda folder: folder.mkdir(parents=True, exist_ok=True),
            evaluate=lambda split: metrics,
        )
    ]


def slept(config: StudyConfig) -> Iterator[tuple[float, float]]:
    """Yield when each trial of the search ran."""
    for trial in finished_trials(open_search(StudyFolder(Path(config.runs) / config.name))):
        [row] = record_of(trial).curve
        yield row["loss.began"], row["loss.ended"]


# ---------------------------------------------------------------- trials


def many(name: str, trials: int, members: int, folder: Path) -> dict[str, float]:
    """Run so many trials of 0 s, and return what they cost."""
    config = make_config(name, trials, 2, folder)
    cluster = config.cluster.model_copy(update={"members_per_trial": members})
    database = folder / "trials.db"
    storage = f"sqlite:///{database}" if name == "sqlite" else None
    config = config.model_copy(update={"cluster": cluster, "storage": storage, "sampler": "random"})
    study, before, began = StudyFolder(Path(config.runs) / name), resident(), time.monotonic()
    run(config, objective=make_objective(0.0))
    wall, after = time.monotonic() - began, resident()
    ended = sorted(trial.datetime_complete.timestamp() for trial in finished_trials(open_search(study)))
    size = (database if storage else study.journal).stat().st_size
    tenth = max(2, trials // 10)
    took = measure_commands(config)
    return {
        "s a trial, first tenth": (ended[tenth - 1] - ended[0]) / (tenth - 1),
        "s a trial, last tenth": (ended[-1] - ended[-tenth]) / (tenth - 1),
        "s in all": wall,
        "MiB of the driver before": before,
        "MiB of the driver after": after,
        "kB of storage a trial": size / trials / 1e3,
        **took,
    }


# ---------------------------------------------------------------- growth


class Watcher(io.StringIO):
    """What a study prints; when so many trials have ended it notes what the driver holds."""

    def __init__(self, marks: Sequence[int], trials: int):
        super().__init__()
        self._marks = {f"{mark}/{trials}  ": mark for mark in marks}
        self.found: dict[str, float] = {}

    def write(self, text: str) -> int:
        """Look at the driver if a mark is in the line."""
        for mark in [self._marks[words] for words in self._marks if text.lstrip().startswith(words)]:
            self.found |= {
                f"MiB of the driver at {mark}": resident(),
                f"open files at {mark}": len(os.listdir("/proc/self/fd")),
                f"threads at {mark}": len(os.listdir("/proc/self/task")),
                f"processes at {mark}": len(descendants()),
            }
        return super().write(text)


def descendants() -> set[int]:
    """Return the processes that this one started, and those that they started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in found | {os.getpid()}} - found:
        found |= more
    return found


def growth(trials: int, folder: Path) -> dict[str, float]:
    """Run so many trials of 0 s one by one, and return what the driver held after a quarter of them and after all."""
    watcher = Watcher((trials // 4, trials), trials)
    config = make_config("growth", trials, 2, folder).model_copy(update={"sampler": "random"})
    run(config, objective=make_objective(0.0), console=Console(file=watcher, width=200))
    journal = StudyFolder(Path(config.runs) / config.name).journal
    return {**watcher.found, "kB of storage a trial": journal.stat().st_size / trials / 1e3}


# ---------------------------------------------------------------- commands


def measure_commands(config: StudyConfig) -> Mapping[str, float]:
    """Return what `study.status` takes, and a resume until its one further trial has ended."""
    began = time.monotonic()
    command = [sys.executable, "-m", "study.status", config.name, "--runs", config.runs]
    subprocess.run(command, check=True, capture_output=True)
    status = time.monotonic() - began
    more = config.model_copy(update={"trials": config.trials + 1})
    study, began = StudyFolder(Path(config.runs) / config.name), time.time()
    run(more, resume=True, objective=make_objective(0.0))
    whole = time.time() - began
    last = max(trial.datetime_complete.timestamp() for trial in finished_trials(open_search(study)))
    return {
        "s of study.status": status,
        "s of a resume to its trial's end": last - began,
        "s of a resume in all": whole,
    }


if __name__ == "__main__":
    main()
