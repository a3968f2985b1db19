"""How long one waits: for help, for the first epoch of a study whose data is cached, and for the report at the end.

    python benchmarks/startup.py [--repeats 3]

Each figure is a process of its own, as a user starts it; medians. A study's first training is its baseline, which is
trial 0 of the search; a snapshot after every epoch tells when it has trained one. Beside it: how long Ray and torch
themselves take to start here, in the same run. Goals: help 0.5 s, first epoch 20 s, report 10 s.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from measure import keep, tell, tell_machine

from spinlock_dist.config import SimulatorConfig
from spinlock_dist.simulator.dataset import cached_dataset
from tests.synthetic_study import build_study

SETTINGS = "cluster:\n  snapshot_seconds: 0\n  gpus: 0\n"
RAY = "import ray; ray.init(num_cpus=2, include_dashboard=True, logging_level='ERROR')"
TRIALS = 1000


def main() -> None:
    """Print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    known = tell_machine()
    cached_dataset(SimulatorConfig())
    with tempfile.TemporaryDirectory() as folder:
        build_study(Path(folder) / "runs", "one", TRIALS)
        measured: dict[str, Callable[[int], float]] = {
            "help, s": lambda _: command("-m", "study.launch", "--help"),
            "torch alone, s to import": lambda _: command("-c", "import torch"),
            "Ray alone, s to start": lambda _: command("-c", RAY),
            "launch to first epoch, s": lambda turn: first_epoch(Path(folder), f"first-{turn}", "baseline-*"),
            "launch to first epoch of a suggested trial, s": lambda turn: first_epoch(
                Path(folder), f"trial-{turn}", "trial-*"
            ),
            f"report of {TRIALS} trials, s": lambda _: command("-m", "results.report", "one", folder=Path(folder)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for turn in range(args.repeats):
            for name, run in measured.items():
                seconds[name].append(run(turn))
    figures = {name: median(each) for name, each in seconds.items()}
    tell("start-up", figures)
    keep("startup", {"start-up": figures}, known)


def command(*given: str, folder: Path | None = None) -> float:
    """Return the seconds that a Python process takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *given], check=True, capture_output=True, cwd=folder)
    return time.perf_counter() - began


def first_epoch(folder: Path, name: str, snapshot: str) -> float:
    """Return the seconds from the start of a study to its first snapshot of a kind, then end it."""
    (folder / "study.yaml").write_text(SETTINGS, encoding="utf-8")
    began = time.perf_counter()
    study = subprocess.Popen(
        [sys.executable, "-m", "study.launch", "--config", "study.yaml", "--name", name, "--trials", "4"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not list((folder / "runs" / name).glob(f"tune/snapshots/{snapshot}")):
            if study.poll() is not None:
                raise SystemExit(f"error: the study ended by itself, with {study.returncode}")
            time.sleep(0.02)
        return time.perf_counter() - began
    finally:
        study.send_signal(signal.SIGINT)
        study.wait()


if __name__ == "__main__":
    main()
