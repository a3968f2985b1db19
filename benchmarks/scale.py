"""Does a study keep many slots busy, and what do 10,000 trials cost its driver, its storage and its commands?

    python benchmarks/scale.py                          both parts: 8 nodes x 8 logical GPUs, and 10,000 trials
    python benchmarks/scale.py --parts slots            only the first; its 64 worker processes need 12 GB
    python benchmarks/scale.py --nodes 2 --trials 500   a first look
    python benchmarks/scale.py --parts real             10,000 trainings, hours on two cores

Trials sleep instead of training. `slots`: trials of 20 to 60 s (log-uniform) on a simulated cluster; the share of the
time in which a slot runs a trial, from when all have begun their first until the last trial begins. Goal: 95 % busy.
`joining`: the same of a study that begins with two slots, while a node joins every minute; the time of a node's slots
counts from when all of these have begun. `trials`: trials of 0 s, `--members` to a trial batch, drawn at random, into
the journal, and a tenth as many into SQLite, which takes longer for each: seconds a trial early and late, the driver's
memory, the storage's size, and what `study.status` and a resume then take. `growth`: 2,000 trials of 0 s, each alone;
the driver's memory, open files, threads and processes after a quarter of them and after all. `real`: a study of
`--trials` trials as anybody runs it, TPE, checkpoints, finals and report, but of 300 rows and one epoch a trial: what
of a trial's time the driver takes, early and late, what the study leaves, and what its commands take.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from measure import keep, tell, tell_machine
from overhead import SPACE, make_config, make_metrics, make_objective, resident, write_table
from ray.cluster_utils import Cluster
from rich.console import Console

from results.records.optuna_trials import finished_trials, open_search, record_of
from results.records.study_folder import StudyFolder
from spinlock_dist.config import PrepareConfig, SplitConfig, TrainingConfig, TrialConfig
from spinlock_dist.metrics.record import EpochMetrics
from study import StudyConfig, run
from study.config import ClusterConfig
from study.search.searcher import AskTellSearcher

GPUS = 8
SECONDS = (20.0, 60.0)
PARTS = ("slots", "joining", "trials", "growth", "real")
GROWTH = 2_000
FEW = 2
EVERY_SECONDS = 60.0
WAVES = 5
"""Trials a slot, on average."""


def main() -> None:
    """Print a table a part, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=("slots", "trials"))
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where studies are left; by default nowhere")
    args = parser.parse_args()
    known, found = tell_machine(), {}
    with nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "table.parquet")
        for part in [part for part in ("slots", "joining") if part in args.parts]:
            found[part] = slots(args.nodes, Path(folder), part == "joining")
            tell(f"{args.nodes * GPUS} {part}", found[part])
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
        if "real" in args.parts:
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            found["real"] = real(args.trials, Path(folder))
            tell(f"{args.trials} real trials", found["real"])
            ray.shutdown()
    keep("scale", found, known)


# ---------------------------------------------------------------- slots


@dataclass
class Nodes:
    """The nodes of a simulated cluster: how many slots each has, and when it had joined."""

    sizes: Sequence[int]
    cluster: Cluster = field(default_factory=lambda: Cluster(shutdown_at_exit=False))  # which only a main thread can
    joined: dict[float, tuple[int, float]] = field(default_factory=dict)
    """Of each node that is there, by what `node_number` says of it: its slots, and the time."""

    def add(self) -> None:
        """Add the next."""
        size = self.sizes[len(self.joined)]
        added = self.cluster.add_node(num_cpus=size, num_gpus=size, include_dashboard=False)
        self.joined[node_number(added.node_id)] = size, time.time()

    def add_all(self, seconds: float) -> None:
        """Add those that are missing, one every so many seconds."""
        while len(self.joined) < len(self.sizes):
            time.sleep(seconds)
            self.add()


def node_number(node: str) -> float:
    """Return a node's identifier as a number, for it to stand in a curve."""
    return float(int(node[:12], 16))


def slots(nodes: int, folder: Path, joining: bool) -> dict[str, float]:
    """Run a study on a simulated cluster, and return how busy it was kept."""
    there = Nodes([FEW, GPUS - FEW, *[GPUS] * (nodes - 1)] if joining else [GPUS] * nodes)
    count = sum(there.sizes)
    config = make_config("joining" if joining else "slots", (2 if joining else 1) * WAVES * count, count, folder)
    where = ClusterConfig(gpus=count, members_per_trial=1, wait_for_nodes=60 if joining else 0)
    config = config.model_copy(update={"cluster": where})
    try:
        for _ in there.sizes[: 1 if joining else None]:
            there.add()
        ray.init(address=there.cluster.address, log_to_driver=False, logging_level="ERROR")
        began, others = time.time(), threading.Thread(target=there.add_all, args=(EVERY_SECONDS,))
        others.start()
        run(config, objective=sleep_a_while)
        others.join()
        wall = time.time() - began
        return {**busy(list(slept(config)), there.joined, joining), "s in all, baseline included": wall}
    finally:
        ray.shutdown()
        there.cluster.shutdown()


def busy(
    intervals: Sequence[tuple[float, float, float]], joined: Mapping[float, tuple[int, float]], joining: bool
) -> dict[str, float]:
    """Return the share of their time in which slots ran trials, until the last trial began.

    A slot's time counts from when all slots had begun their first; where nodes join, all of its node.
    """
    last, share, of_all, waits = max(start for start, _, _ in intervals), 0.0, 0.0, []
    groups = [([node], size) for node, (size, _) in joined.items()]
    for names, size in groups if joining else [(list(joined), sum(size for _, size in groups))]:
        ran = sorted((start, end) for start, end, node in intervals if node in names)
        first = ran[size - 1][0]
        share += sum(max(0.0, min(end, last) - max(start, first)) for start, end in ran)
        of_all += size * (last - first)
        waits.append(first - (joined[names[0]][1] if joining else ran[0][0]))
    return {
        "busy, share": share / of_all,
        "trials": len(intervals),
        "slots": sum(size for size, _ in joined.values()),
        "hours of slots": of_all / 3600,
        f"s until all had begun{', after a node had joined, at most' if joining else ''}": max(waits),
    }


def sleep_a_while(configs: Sequence[TrialConfig], data, report, snapshots) -> list[SimpleNamespace]:
    """Stand in for the core: a trial's sharpness says how long it takes, and its curve when it ran."""
    low, high = SECONDS
    sharpness = configs[0].compression.sharpness
    share = (sharpness * 1000) % 1
    began = time.time()
    time.sleep(low * (high / low) ** share)
    metrics, losses = make_metrics(0.6 + 0.01 * sharpness), {"began": began, "ended": time.time()}
    losses["node"] = node_number(ray.get_runtime_context().get_node_id())
    made = EpochMetrics(epoch=1, trained=1, finished=True, losses=losses, validation=metrics, seconds=0.0)
    report({0: made})
    return [
        SimpleNamespace(
            validation=metrics,
            save=lambda folder: folder.mkdir(parents=True, exist_ok=True),
            evaluate=lambda split: metrics,
        )
    ]


def slept(config: StudyConfig) -> Iterator[tuple[float, float, float]]:
    """Yield when each trial of the search ran, and on which node."""
    for trial in finished_trials(open_search(StudyFolder(Path(config.runs) / config.name))):
        [row] = record_of(trial).curve
        yield row["loss.began"], row["loss.ended"], row["loss.node"]


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
    """What a study prints; when so many trials have ended it calls `look`, or notes what the driver holds."""

    def __init__(self, marks: Sequence[int], trials: int, look: Callable[[int], None] | None = None):
        super().__init__()
        self._marks = {f"{mark}/{trials}  ": mark for mark in marks}
        self._look = look or self._note
        self.found: dict[str, float] = {}

    def write(self, text: str) -> int:
        """Look at the driver if a mark is in the line."""
        for mark in [self._marks[words] for words in self._marks if text.lstrip().startswith(words)]:
            self._look(mark)
        return super().write(text)

    def _note(self, mark: int) -> None:
        self.found |= {f"{name} at {mark}": value for name, value in held().items()}


def held() -> dict[str, float]:
    """Return what this process, a driver, holds."""
    return {
        "MiB of the driver": resident(),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "processes": len(descendants()),
    }


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


# ---------------------------------------------------------------- real trials


class Clock:
    """Processor seconds that calls of some methods take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def on(self, owner: type, method: str, name: str) -> None:
        """Have the method's calls counted from now on, as `name`."""
        called = getattr(owner, method)
        self.seconds.setdefault(name, 0.0)

        def timed(*args: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return called(*args, **named)
            finally:
                self.seconds[name] += time.thread_time() - began

        setattr(owner, method, timed)


def real(trials: int, folder: Path) -> dict[str, float]:
    """Run a study of so many trainings, and return what it took, what it left, and what reading it takes."""
    config = real_config(trials, folder)
    clock, began, looks = Clock(), time.monotonic(), []
    clock.on(AskTellSearcher, "suggest", "asks")
    for method in ("on_trial_result", "on_trial_complete"):
        clock.on(AskTellSearcher, method, "outcomes")

    def note(mark: int) -> None:
        looks.append({"trials": mark, "s": time.monotonic(), "cpu": time.process_time(), **clock.seconds, **held()})
        print(looks[-1], flush=True)

    tenths = [max(1, trials * tenth // 10) for tenth in range(11)]
    run(config, console=Console(file=Watcher(tenths, trials, note), width=200))
    whole = time.monotonic() - began
    study = StudyFolder(Path(config.runs) / config.name)
    found = {"s in all": whole}
    for tenth, (first, last) in {"first tenth": looks[:2], "last tenth": looks[-2:]}.items():
        a_trial = {name: (last[name] - first[name]) / (last["trials"] - first["trials"]) for name in first}
        found[f"s a trial, {tenth}"] = a_trial["s"]
        found[f"ms of the driver's processor a trial, {tenth}"] = 1e3 * a_trial["cpu"]
        found |= {f"of them {name}, {tenth}": 1e3 * a_trial[name] for name in clock.seconds}
    for which, look in {"first": looks[0], "last": looks[-1]}.items():
        found |= {f"{name} at the {which} trial": look[name] for name in held()}
    return found | left(study, trials) | reading(config)


def real_config(trials: int, folder: Path) -> StudyConfig:
    """Return a study of which only the trainings are small."""
    prepare = PrepareConfig(dataset=str(folder / "table.parquet"), split=SplitConfig(folds=1))
    base = TrialConfig(prepare=prepare, training=TrainingConfig(epochs=1))
    cluster = ClusterConfig(gpus=0, max_concurrent=2)
    return StudyConfig(
        name="real", runs=str(folder / "runs"), space=SPACE, trials=trials, epochs=1, base=base, cluster=cluster
    )


def left(study: StudyFolder, trials: int) -> dict[str, float]:
    """Return what a study has left on disk."""
    files = [path for path in study.path.rglob("*") if path.is_file()]
    with study.journal.open("rb") as lines:
        count = sum(1 for _ in lines)
    return {
        "kB of journal a trial": study.journal.stat().st_size / trials / 1e3,
        "lines of journal a trial": count / trials,
        "MB of the folder": sum(path.stat().st_size for path in files) / 1e6,
        "MB of the tables": sum(path.stat().st_size for path in study.path.glob("*.parquet")) / 1e6,
        "files of the folder": len(files),
    }


def reading(config: StudyConfig) -> dict[str, float]:
    """Return the seconds that whoever comes later waits for."""
    found, study = {}, StudyFolder(Path(config.runs) / config.name)
    began = time.monotonic()
    finished_trials(open_search(study))
    found["s to open"] = time.monotonic() - began
    for command in ("study.status", "results.leaderboard", "results.report"):
        began = time.monotonic()
        asked = [sys.executable, "-m", command, config.name, "--runs", config.runs]
        subprocess.run(asked, check=True, capture_output=True)
        found[f"s of {command}"] = time.monotonic() - began
    began = time.monotonic()
    run(config, resume=True)
    return found | {"s of a resume of the complete study": time.monotonic() - began}


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
