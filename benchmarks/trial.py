"""What a whole trial costs and how well it ends, against an earlier commit in the same run.

    python benchmarks/trial.py                        2,000 simulated operators, uniform ratios, three splits
    python benchmarks/trial.py --strategy feedback    another strategy
    python benchmarks/trial.py --rows 10000 --old-epochs 60
    python benchmarks/trial.py --set training.epochs=10 --set training.epochs=40    more arms, a setting each

A trial is everything from prepared data to its last metrics: the plan, pilots if there are any, the start and every
evaluation. The commit is checked out beside the project; each version runs in a process of its own, on one thread, and
they take turns, trial by trial. Seconds are of the processor, children included: their median over splits and repeats,
after a trial of each that does not count. A split has a seed of its own; errors are means over the splits.

The arm `as long as before` trains as many epochs as take the earlier commit's time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any

from measure import keep, tell_machine

PROJECT = Path(__file__).parents[1]
COMMIT = "fa24ce6"
ERRORS = ("fvu_mean", "fvu_worst")
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
"""Of the rows, in every version. A trial of a study trains once a fold, on as many rows as the other folds have."""
Settings = dict[str, Any]


class Version:
    """A process that runs trials with the code in a folder, one after the other."""

    def __init__(self, folder: Path):
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def trial(self, settings: Mapping[str, Any]) -> dict[str, float]:
        """Return the seconds and the errors of a trial with these settings."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(settings) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process ended with {self.process.wait()}")
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve() -> None:
    """Run the trials whose settings come in line by line, with whatever code is in the path."""
    import torch

    from spinlock_dist.config import TrialConfig
    from spinlock_dist.prepare import prepare
    from spinlock_dist.run import run_trial

    torch.set_num_threads(1)
    prepared: dict[str, Any] = {}
    for line in sys.stdin:
        config = TrialConfig().with_overrides(json.loads(line))
        data = prepared.setdefault(config.prepare.model_dump_json(), None) or prepare(config.prepare)
        prepared[config.prepare.model_dump_json()] = data
        forget_plans()
        before = seconds()
        outcome = run_trial(config, data)
        found = {"seconds": seconds() - before}
        for split, metrics in (("validation", outcome.validation), ("test", outcome.evaluate("test"))):
            found |= {f"{split} {name}": getattr(metrics, name) for name in (*ERRORS, "imbalance")}
        print(json.dumps(found), flush=True)


def forget_plans() -> None:
    """Let the next trial measure its plan, as the first of a study does."""
    try:
        from spinlock_dist.baselines import pilots
    except ImportError:
        return  # the earlier commit remembers none
    pilots._PLANS.clear()


def seconds() -> float:
    """Return the processor time that this process and its children have taken."""
    return sum(os.times()[:4])


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Lend the project as it was at a commit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / commit
        git = ["git", "-C", str(PROJECT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def measure(old: Version, new: Version, args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return what every trial of every arm came to."""
    dataset = simulated(args.rows)

    def settings(split: int, further: Mapping[str, Any]) -> Settings:
        common = {"prepare.dataset": dataset, "compression.strategy": args.strategy, "training.device": "cpu"}
        return {**common, "prepare.split": {"seed": split, **SHARES}, "seed": split, **further}

    before = {"training.epochs": args.old_epochs} if args.old_epochs else {}
    arms: dict[str, tuple[Version, Settings]] = {args.commit: (old, before), "now": (new, {})}
    for setting in args.set:
        arms[setting] = new, dict(part.split("=", 1) for part in setting.split(","))
    first = {name: version.trial(settings(0, further)) for name, (version, further) in arms.items()}
    if args.as_long:
        epochs = epochs_in(first[args.commit]["seconds"], new, settings)
        arms[f"as long as before: {epochs} epochs"] = new, {"training.epochs": epochs}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for _ in range(args.repeats):
        for split in range(args.splits):
            for name, (version, further) in arms.items():
                found[name].append(version.trial(settings(split, further)))
    return found


def epochs_in(budget: float, version: Version, settings: Any) -> int:
    """Return how many epochs fit a budget of seconds, from what 20 and 60 of them take."""
    few, many = (version.trial(settings(0, {"training.epochs": epochs}))["seconds"] for epochs in (20, 60))
    return max(1, int(20 + (budget - few) / (many - few) * 40))


def simulated(rows: int) -> str:
    """Return the file of as many simulated operators, which all versions read."""
    from spinlock_dist.config import SimulatorConfig
    from spinlock_dist.simulator.dataset import cached_dataset

    return str(cached_dataset(SimulatorConfig(samples=rows)))


def main() -> None:
    """Print a table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--strategy", default="uniform")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1, help="trials of every arm on every split")
    parser.add_argument("--commit", default=COMMIT, help="what to compare with")
    parser.add_argument("--old-epochs", type=int, help="its epochs (default: its own default)")
    parser.add_argument("--as-long", action="store_true", help="also train as long as it took")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE[,NAME=VALUE]", help="a further arm each")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    known = tell_machine()
    with checked_out(args.commit) as folder:
        old, new = Version(folder), Version(PROJECT)
        try:
            found = measure(old, new, args)
        finally:
            old.close()
            new.close()
    keep("trial", {"settings": vars(args), "trials": found, "summary": tell(found)}, known)


def tell(found: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Print a row an arm: its seconds, and its errors on validation and test rows; return the same."""
    summary = {
        arm: {name: (median if name == "seconds" else mean)(each[name] for each in trials) for name in trials[0]}
        for arm, trials in found.items()
    }
    base = next(iter(summary.values()))
    print("\n| | mean FVU | worst FVU | imbalance | s | times less |\n|---|--:|--:|--:|--:|--:|")
    for arm, values in summary.items():
        pairs = [
            ", ".join(f"{values[f'{split} {name}']:.{digits}f}" for split in ("validation", "test"))
            for name, digits in (("fvu_mean", 4), ("fvu_worst", 4), ("imbalance", 1))
        ]
        ratio = base["seconds"] / values["seconds"]
        print(f"| {arm} | {' | '.join(pairs)} | {values['seconds']:.2f} | {ratio:.1f} |")
    return summary


if __name__ == "__main__":
    main()
