"""python -m spinlock_dist.train: train one config, show what it learned, keep a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinlock_dist.checkpoint_metadata import CHECKPOINT
from spinlock_dist.command import add_overwrite, command_parser
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import load_config, read_assignments
from spinlock_dist.errors import ConfigError, DivergedError, SpinlockError, did_you_mean, run_command
from spinlock_dist.outputs import check_output

if TYPE_CHECKING:
    from spinlock_dist.metrics.record import EpochMetrics
    from spinlock_dist.prepare import PreparedData
    from spinlock_dist.run import TrialOutcome
    from spinlock_dist.tables import Arm
    from spinlock_dist.training.snapshot import State

EXAMPLES = """examples:
  python -m spinlock_dist.train                                    defaults on simulated operators
  python -m spinlock_dist.train --config runs/x/best/config.yaml   the best config of a study
  python -m spinlock_dist.train --dataset features.parquet --set compression.strategy=dimensionality --out ckpt
  python -m spinlock_dist.train --config trial.yaml --compare uniform   beside the baseline, on the same everything
  python -m spinlock_dist.train --compare joint_least_squares      beside a codec without a network, at the same bits
  python -m spinlock_dist.train --config trial.yaml --dry-run      what would be trained, without training it
  python -m spinlock_dist.train --resume ckpt --epochs 20 --out ckpt   20 epochs more, of a checkpoint of this command
"""

BAR = "joint_least_squares"
"""The best codec without a network."""
PROGRESS_BAR, TIME = 4, 7
"""Columns of the progress bar and of the time left, at most."""


def main(argv: list[str] | None = None) -> int:
    """Parse, prepare, train, save, print."""
    args = make_parser().parse_args(argv)
    if args.out:
        check_output(args.out, CHECKPOINT, overwrite=args.overwrite)
    codec = _codec(args.compare)
    configs, earlier = _resumed(args) if args.resume else (_configs(args, codec), None)
    # Imported only now, so that --help and a misspelt setting answer at once.
    from spinlock_dist.prepare import prepare

    data = prepare(configs[0].prepare)
    if args.resume:
        _require_same_data(args.resume, data)
    if args.dry_run:
        from spinlock_dist.dry_run import show_plan

        for config in configs:
            show_plan(config, data, args.json)
        return 0
    outcomes = _train(configs, data, args.json, earlier)
    splits = ("validation", "test") if args.test else ("validation",)
    arms = [_trained_arm(outcome, splits) for outcome in outcomes]
    if args.compare:
        # Whatever it is compared with, beside it stands the codec that a network has to beat.
        arms += [_codec_arm(name, outcomes[0], data, splits) for name in dict.fromkeys((codec or BAR, BAR))]
    unsaved = _unsaved(outcomes[0], args.out) if args.out else None
    if args.json:
        print(json.dumps(_record(outcomes, arms, data)))
    else:
        _show(outcomes[0], arms, data)
        if args.out and not unsaved:
            print(f"checkpoint: {args.out}")
    if unsaved:
        raise SpinlockError(unsaved)
    return 0


def _unsaved(outcome: TrialOutcome, folder: Path) -> str:
    """Save the checkpoint; if that fails, say why, so that what was measured is shown all the same."""
    try:
        outcome.save(folder)
    except OSError as error:
        return f"--out {folder}: the checkpoint could not be written: {error.strerror or error}"
    return ""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser("spinlock_dist.train", "Train one tokenizer and show it category by category.", EXAMPLES)
    parser.add_argument("--config", type=Path, metavar="YAML", help="trial config, or one of Spinlock's")
    parser.add_argument("--dataset", metavar="FILE", help="HDF5, .parquet, .csv or .npz (default: simulated operators)")
    parser.add_argument("--epochs", type=int, metavar="N", help="with --resume: how many more")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting, e.g. model.hidden=128"
    )
    parser.add_argument(
        "--compare",
        metavar="NAME",
        help="set beside it the same config with another strategy, e.g. uniform, or a codec without a network at the "
        f"same bits: residual_kmeans, pca_scalar or {BAR}, whose totals are shown with any of these",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write the checkpoint here: a new folder, or an earlier checkpoint's"
    )
    add_overwrite(parser)
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="CHECKPOINT",
        help="train a checkpoint that this command wrote on, for --epochs more; its config stays as it is",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check config and dataset, say what would be trained, and end",
    )
    parser.add_argument(
        "--test", action="store_true", help="also evaluate the test rows; never choose a config by them"
    )
    parser.add_argument("--json", action="store_true", help="print metrics as JSON and nothing else")
    return parser


def _codec(compared: str | None) -> str | None:
    """The name of the codec to compare with, None if it is a strategy. Raises `ConfigError` if it is neither."""
    from spinlock_dist.compression.strategies import STRATEGIES

    if compared is None or compared in STRATEGIES:
        return None
    from spinlock_dist.baselines import CODECS  # needs torch; strategies do not

    if compared not in CODECS:
        known = (*STRATEGIES, *CODECS)
        raise ConfigError(f"--compare: unknown strategy or codec '{compared}'{did_you_mean(compared, known)}")
    return compared


def _configs(args: argparse.Namespace, codec: str | None) -> list[TrialConfig]:
    """The config asked for, and the one with the strategy to compare it with if any."""
    from spinlock_dist.compression.strategies import get_strategy
    from spinlock_dist.interop.spinlock_reader import is_spinlock_yaml

    config = _given(args.config) if args.config else TrialConfig()
    flags = {
        "prepare.dataset": args.dataset,
        "training.epochs": args.epochs,
        "seed": args.seed,
        "training.device": args.device,
    }
    overrides = {name: value for name, value in flags.items() if value is not None}
    config = config.with_overrides(overrides | read_assignments(args.set), "command line")
    if config.prepare.dataset is None and args.config and is_spinlock_yaml(args.config):
        raise ConfigError(
            f"{args.config}: names no dataset_path; add it or give --dataset FILE. For simulated operators, write a "
            "config with the line 'preset: spinlock'"
        )
    if args.compare == config.compression.strategy:
        raise ConfigError(f"--compare {args.compare}: this is the config's own strategy; name another")
    get_strategy(config.compression.strategy)  # raises for an unknown one: before the data is prepared, not after
    if args.compare is None or codec:
        return [config]
    return [config, config.with_overrides({"compression.strategy": args.compare})]


def _given(path: Path) -> TrialConfig:
    """Read a config of ours or of Spinlock's; of the latter, say on stderr what has no counterpart here."""
    from spinlock_dist.interop.spinlock_reader import is_spinlock_yaml, load_spinlock_yaml

    if not is_spinlock_yaml(path):
        return load_config(path)
    config, not_mapped = load_spinlock_yaml(path)
    for line in not_mapped:
        print(f"not mapped: {line}", file=sys.stderr)
    return config


def _resumed(args: argparse.Namespace) -> tuple[list[TrialConfig], State]:
    """The config of a checkpoint with more epochs, and where its training ended."""
    from spinlock_dist.checkpoint import load_state
    from spinlock_dist.checkpoint_metadata import META, read_meta
    from spinlock_dist.config_file import parse_config

    taken = {"--config": args.config, "--set": args.set, "--seed": args.seed, "--compare": args.compare}
    for option, value in taken.items():
        if value not in (None, []):
            raise ConfigError(f"{option}: --resume trains the config of its checkpoint; leave it out, or train anew")
    if args.epochs is None or args.epochs < 1:
        raise ConfigError("--resume: say by --epochs N how many epochs more, at least 1")
    config, state = (
        parse_config(TrialConfig, read_meta(args.resume)["config"], str(args.resume / META)),
        load_state(args.resume),
    )
    flags = {"prepare.dataset": args.dataset, "training.device": args.device}
    given = {name: value for name, value in flags.items() if value is not None}
    epochs = {"training.epochs": state.metadata["epoch"] + args.epochs}
    return [config.with_overrides(given | epochs, "command line")], state


def _require_same_data(checkpoint: Path, data: PreparedData) -> None:
    from spinlock_dist.checkpoint_metadata import read_meta

    if read_meta(checkpoint)["fingerprint"] != data.fingerprint:
        raise ConfigError(f"--resume {checkpoint}: trained on other data; name that by --dataset FILE, or train anew")


def _train(
    configs: list[TrialConfig], data: PreparedData, quiet: bool, earlier: State | None = None
) -> list[TrialOutcome]:
    """Train all configs in lock step, showing how the first one is doing; on from `earlier`, if it is given."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from spinlock_dist.run import run_members
    from spinlock_dist.shown import terminal_console
    from spinlock_dist.tables import epoch_in_words
    from spinlock_dist.training.warm_up import warm_up

    console, epochs = terminal_console(quiet=quiet), configs[0].training.epochs
    warm_up(configs[0], console.print)
    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(PROGRESS_BAR), TimeRemainingColumn(compact=True))
    with Progress(*columns, TextColumn("{task.fields[state]}", markup=False), console=console) as progress:
        task = progress.add_task("training", total=epochs, state="")
        left = console.width - len(f"{epochs}/{epochs} ") - (PROGRESS_BAR + 1) - (TIME + 1)

        def report(made: Mapping[int, EpochMetrics]) -> tuple[()]:
            if 0 in made:
                progress.update(task, completed=made[0].epoch, state=epoch_in_words(made[0], left))
            return ()

        members = run_members(configs, data, report, keep_states=True, earlier=earlier)
    return [_finished(member, config) for member, config in zip(members, configs, strict=True)]


def _finished(member: TrialOutcome | SpinlockError | None, config: TrialConfig) -> TrialOutcome:
    if isinstance(member, DivergedError):
        raise SpinlockError(f"strategy {config.compression.strategy} {member}")
    if isinstance(member, SpinlockError):
        raise member
    assert member is not None  # nothing stopped it
    return member


def _trained_arm(outcome: TrialOutcome, splits: tuple[str, ...]) -> Arm:
    from spinlock_dist.tables import Arm

    return Arm(
        name=outcome.config.compression.strategy,
        bits=outcome.tokenizer.plan.bits.sum(axis=1),
        scores={split: outcome.validation if split == "validation" else outcome.evaluate(split) for split in splits},
    )


def _codec_arm(name: str, outcome: TrialOutcome, data: PreparedData, splits: tuple[str, ...]) -> Arm:
    """Fit a codec to the training rows, each category within the bits it has in `outcome`."""
    from spinlock_dist.baselines import fit_codec, score_codec
    from spinlock_dist.tables import Arm

    train_ND = data.values[data.split.train]
    config = outcome.config
    codec = fit_codec(name, train_ND, data.categories, outcome.tokenizer.plan, config.seed, config.quantizer.beam)
    return Arm(name=name, bits=codec.bits, scores={split: score_codec(codec, data, split) for split in splits})


def _record(outcomes: list[TrialOutcome], arms: list[Arm], data: PreparedData) -> dict[str, Any]:
    """What --json prints: the metrics per split, those of what it is compared with under `compared`, and those of the
    codec that a network has to beat under `without_network`."""
    heads: list[dict[str, Any]] = [
        {"strategy": outcome.config.compression.strategy, "epochs": outcome.epochs} for outcome in outcomes
    ]
    heads += [{"codec": arm.name} for arm in arms[len(outcomes) :]]
    own, *others = [
        head | {split: asdict(score) for split, score in arm.scores.items()}
        for head, arm in zip(heads, arms, strict=True)
    ]
    compared = {"compared": others[0], "without_network": others[-1]} if others else {}
    return {"fingerprint": data.fingerprint, **own, **compared}


def _show(outcome: TrialOutcome, arms: list[Arm], data: PreparedData) -> None:
    from spinlock_dist.shown import terminal_console
    from spinlock_dist.tables import category_table, comparison_table, totals

    console = terminal_console()
    console.print(category_table(outcome, data.categories))
    own, *others = arms
    for other in others[:1]:
        console.print(comparison_table(other, own, data.categories))
    for arm in arms:
        name = f"{arm.name}, " if others else ""
        for split, score in arm.scores.items():
            console.print(totals(score, f"{name}{split}"), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
