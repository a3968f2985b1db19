"""python -m spinlock_dist.train: train one config, show what it learned, keep a checkpoint."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinlock_dist.config import TrialConfig, load_config
from spinlock_dist.errors import ConfigError, run_command

if TYPE_CHECKING:
    from spinlock_dist.metrics.record import EpochMetrics, Metrics
    from spinlock_dist.prepare import PreparedData
    from spinlock_dist.run import TrialOutcome

EXAMPLES = """examples:
  python -m spinlock_dist.train                                    defaults on simulated operators
  python -m spinlock_dist.train --config runs/x/best/config.yaml   the best config of a study
  python -m spinlock_dist.train --dataset features.parquet --set compression.strategy=dimensionality --out ckpt
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, prepare, train, save, print."""
    args = _parser().parse_args(argv)
    config = _config(args)
    # Imported only now, so that --help and a misspelt setting answer at once.
    from spinlock_dist.prepare import prepare

    data = prepare(config.prepare)
    outcome = _train(config, data, quiet=args.json)
    test = outcome.evaluate("test") if args.test else None
    if args.out:
        outcome.save(args.out)
    if args.json:
        metrics = {"validation": asdict(outcome.validation)} | ({"test": asdict(test)} if test else {})
        print(json.dumps({"fingerprint": data.fingerprint, "epochs": outcome.epochs, **metrics}))
    else:
        _show(outcome, data, test)
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
    parser.add_argument("--config", type=Path, metavar="YAML", help="trial config; what it leaves out keeps defaults")
    parser.add_argument("--dataset", metavar="FILE", help="HDF5, .parquet, .csv or .npz (default: simulated operators)")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting, e.g. model.hidden=128"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the checkpoint here")
    parser.add_argument(
        "--test", action="store_true", help="also evaluate the test rows; never choose a config by them"
    )
    parser.add_argument("--json", action="store_true", help="print metrics as JSON and nothing else")
    return parser


def _config(args: argparse.Namespace) -> TrialConfig:
    config = load_config(args.config) if args.config else TrialConfig()
    flags = {
        "prepare.dataset": args.dataset,
        "training.epochs": args.epochs,
        "seed": args.seed,
        "training.device": args.device,
    }
    overrides = {name: value for name, value in flags.items() if value is not None}
    return config.with_overrides(overrides | dict(map(_assignment, args.set)), "command line")


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: expected NAME=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: the value is not valid YAML") from None


def _train(config: TrialConfig, data: PreparedData, quiet: bool) -> TrialOutcome:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from spinlock_dist.run import run_trial

    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(12), TimeRemainingColumn(compact=True))
    with Progress(*columns, TextColumn("{task.fields[state]}"), console=Console(quiet=quiet)) as progress:
        task = progress.add_task("training", total=config.training.epochs, state="")

        def report(metrics: EpochMetrics) -> None:
            score = metrics.validation
            state = (
                f"FVU {score.fvu_mean:.3f} worst {score.fvu_worst:.3f} "
                f"imbalance {score.imbalance:.2f}x utilization {score.utilization:.0%}"
            )
            progress.update(task, completed=metrics.epoch, state=state)

        return run_trial(config, data, report)


def _show(outcome: TrialOutcome, data: PreparedData, test: Metrics | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    score, plan = outcome.validation, outcome.tokenizer.plan
    table = Table(title="validation, by category", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for heading in ("category", "features", "dims", "codes", "bits", "b/feat", "FVU", "raw MSE"):
        table.add_column(heading, justify="left" if heading == "category" else "right", no_wrap=True)
    for index, category in enumerate(data.categories):
        bits = float(plan.bits[index].sum())
        table.add_row(
            category.name,
            str(len(category)),
            " ".join(map(str, plan.dims[index])),
            " ".join(map(str, plan.codes[index])),
            f"{bits:.1f}",
            f"{bits / len(category):.2f}",
            f"{score.fvu[category.name]:.4f}",
            f"{score.mse_raw[category.name]:.4g}",
        )
    console = Console()
    console.print(table)
    for metrics in filter(None, (score, test)):
        console.print(
            f"{metrics.split}: imbalance {metrics.imbalance:.3f}x, FVU mean {metrics.fvu_mean:.4f}, "
            f"worst {metrics.fvu_worst:.4f} ({metrics.worst_category}),\n"
            f"  utilization {metrics.utilization:.1%}, {metrics.dead_codes} dead codes, "
            f"{metrics.bits_per_sample:.1f} bits per sample",
            highlight=False,
        )


if __name__ == "__main__":
    run_command(main)
