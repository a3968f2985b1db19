"""How long the commands on a study's results take, on studies of few and of many trials.

    python benchmarks/reading.py                    10 and 1,000 trials, best of three
    python benchmarks/reading.py --trials 10 5000   other numbers
    python benchmarks/reading.py --stale            the tables are older than the journal, as while a study runs

Each command is a process of its own, its imports counted; the studies are synthetic, of 10 categories. Beside the
seconds stand the ratio to those of the smallest study, so how much is reading, and to the goal of 2 s (report: 10).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the builder of synthetic studies is among the tests

from measure import keep, tell_machine  # noqa: E402

from tests.synthetic_study import build_study  # noqa: E402

GOALS = {"report": 10.0}
"""Seconds; 2 for the other commands."""

COMMANDS = {
    "leaderboard": ("results.leaderboard", "one"),
    "leaderboard --json": ("results.leaderboard", "one", "--json"),
    "export": ("results.export", "one", "--out", "out.yaml"),
    "export --format spinlock": ("results.export", "one", "--format", "spinlock", "--out", "out.yaml"),
    "compare": ("results.compare", "one", "two"),
    "report": ("results.report", "one"),
}


def main() -> None:
    """Print one line a command and size, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stale", action="store_true")
    args = parser.parse_args()
    known, found = tell_machine(), {}
    print(f"{'command':<26}{'trials':>7}{'seconds':>9}{'/ few':>7}{'/ goal':>8}")
    first: dict[str, float] = {}
    for trials in sorted(args.trials):
        with tempfile.TemporaryDirectory() as folder:
            for seed, name in enumerate(("one", "two")):
                study = build_study(Path(folder) / "runs", name, trials, seed=seed)
                if args.stale:
                    study.trials.unlink()
            for label, command in COMMANDS.items():
                seconds = min(run(command, folder) for _ in range(args.repeats))
                grown = seconds / first.setdefault(label, seconds)
                found[f"{label}, {trials} trials, s"] = seconds
                print(f"{label:<26}{trials:>7}{seconds:>9.2f}{grown:>7.2f}{seconds / GOALS.get(label, 2.0):>8.2f}")
    keep("reading", {"reading": found}, known)


def run(command: tuple[str, ...], folder: str) -> float:
    """Return the seconds of a command, from the start of its process to its end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
