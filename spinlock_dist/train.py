"""python -m spinlock_dist.train: train one config, show what it learned, keep a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinlock_dist.config import TrialConfig, load_config
from spinlock_dist.errors import ConfigError, DivergedError, SpinlockError, run_command

if TYPE_CHECKING:
    from spinlock_dist.metrics.record import EpochMetrics, Metrics
    from spinlock_dist.prepare import PreparedData
    from spinlock_dist.run import TrialOutcome

EXAMPLES = """examples:
  python -m spinlock_dist.train                                    defaults on simulated operators
  python -m spinlock_dist.train --config runs/x/best/config.yaml   the best config of a study
  python -m spinlock_dist.train --dataset features.parquet --set compression.strategy=dimensionality --out ckpt
  python -m spinlock_dist.train --config trial.yaml --compare uniform   beside the baseline, on the same everything
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, prepare, train, save, print."""
    args = _parser().parse_args(argv)
    configs = _configs(args)
    # Imported only now, so that --help and a misspelt setting answer at once.
    from spinlock_dist.prepare import prepare

    data = prepare(configs[0].prepare)
    outcomes = _train(configs, data, quiet=args.json)
    splits = ("validation", "test") if args.test else ("validation",)
    scores = [{split: _score(outcome, split) for split in splits} for outcome in outcomes]
    if args.out:
        outcomes[0].save(args.out)
    if args.json:
        print(json.dumps(_record(outcomes, scores, data)))
    else:
        _show(outcomes, scores, data)
        if args.out:
            print(f"checkpoint: {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spinlock_dist.train",
        description="Train one tokenizer and show it category by category.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="YAML", help="trial config, or one of Spinlock's")
    parser.add_argument("--dataset", metavar="FILE", help="HDF5, .parquet, .csv or .npz (default: simulated operators)")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting, e.g. model.hidden=128"
    )
    parser.add_argument(
        "--compare", metavar="STRATEGY", help="train the same config with this strategy beside it, e.g. uniform"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the checkpoint here")
    parser.add_argument(
        "--test", action="store_true", help="also evaluate the test rows; never choose a config by them"
    )
    parser.add_argument("--json", action="store_true", help="print metrics as JSON and nothing else")
    return parser


def _configs(args: argparse.Namespace) -> list[TrialConfig]:
    """Return the config asked for, and the one to compare it with if any."""
    from spinlock_dist.compression.strategies import get_strategy
    from spinlock_dist.spinlock_yaml import is_spinlock_yaml

    config = _given(args.config) if args.config else TrialConfig()
    flags = {
        "prepare.dataset": args.dataset,
        "training.epochs": args.epochs,
        "seed": args.seed,
        "training.device": args.device,
    }
    overrides = {name: value for name, value in flags.items() if value is not None}
    config = config.with_overrides(overrides | dict(map(_assignment, args.set)), "command line")
    if config.prepare.dataset is None and args.config and is_spinlock_yaml(args.config):
        raise ConfigError(
            f"{args.config}: names no dataset_path; add it or give --dataset FILE. For simulated operators, write a "
            "config with the line 'preset: spinlock'"
        )
    if args.compare == config.compression.strategy:
        raise ConfigError(f"--compare {args.compare}: this is the config's own strategy; name another")
    others = [] if args.compare is None else [config.with_overrides({"compression.strategy": args.compare})]
    for each in (config, *others):
        get_strategy(each.compression.strategy)  # raises for an unknown one: before the data is prepared, not after
    return [config, *others]


def _given(path: Path) -> TrialConfig:
    """Read a config of ours or of Spinlock's; of the latter, say on stderr what has no counterpart here."""
    from spinlock_dist.spinlock_yaml import is_spinlock_yaml, load_spinlock_yaml

    if not is_spinlock_yaml(path):
        return load_config(path)
    config, not_mapped = load_spinlock_yaml(path)
    for line in not_mapped:
        print(f"not mapped: {line}", file=sys.stderr)
    return config


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: expected NAME=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: the value is not valid YAML") from None


def _train(configs: list[TrialConfig], data: PreparedData, quiet: bool) -> list[TrialOutcome]:
    """Train all configs in lock step, showing how the first one is doing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from spinlock_dist.run import run_members

    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(12), TimeRemainingColumn(compact=True))
    with Progress(*columns, TextColumn("{task.fields[state]}"), console=Console(quiet=quiet)) as progress:
        task = progress.add_task("training", total=configs[0].training.epochs, state="")

        def report(metrics: EpochMetrics) -> None:
            score = metrics.validation
            state = (
                f"FVU {score.fvu_mean:.3f} worst {score.fvu_worst:.3f} "
                f"imbalance {score.imbalance:.2f}x utilization {score.utilization:.0%}"
            )
            progress.update(task, completed=metrics.epoch, state=state)

        members = run_members(configs, data, [report, *[_silent] * (len(configs) - 1)])
    return [_finished(member, config) for member, config in zip(members, configs, strict=True)]


def _silent(_: EpochMetrics) -> None:
    pass


def _finished(member: TrialOutcome | DivergedError, config: TrialConfig) -> TrialOutcome:
    if isinstance(member, DivergedError):
        raise SpinlockError(f"strategy {config.compression.strategy} {member}")
    return member


def _score(outcome: TrialOutcome, split: str) -> Metrics:
    return outcome.validation if split == "validation" else outcome.evaluate(split)


def _record(outcomes: list[TrialOutcome], scores: list[dict[str, Metrics]], data: PreparedData) -> dict[str, Any]:
    """Return what --json prints: the metrics per split, and those of the strategy compared with under its name."""
    own, *others = [
        {"strategy": outcome.config.compression.strategy, "epochs": outcome.epochs}
        | {split: asdict(metrics) for split, metrics in score.items()}
        for outcome, score in zip(outcomes, scores, strict=True)
    ]
    return {"fingerprint": data.fingerprint, **own} | ({"compared": others[0]} if others else {})


def _show(outcomes: list[TrialOutcome], scores: list[dict[str, Metrics]], data: PreparedData) -> None:
    from rich.console import Console

    from spinlock_dist.tables import category_table, comparison_table, totals

    console = Console()
    console.print(category_table(outcomes[0], data.categories))
    if len(outcomes) > 1:
        console.print(comparison_table(outcomes[1], outcomes[0], data.categories))
    for outcome, score in zip(outcomes, scores, strict=True):
        arm = f"{outcome.config.compression.strategy}, " if len(outcomes) > 1 else ""
        for split, metrics in score.items():
            console.print(totals(metrics, f"{arm}{split}"), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
