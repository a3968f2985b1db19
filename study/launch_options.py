"""The options of `study.launch`, and the config that they, a YAML file and a study to be resumed make together."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from spinlock_dist.command import command_parser
from spinlock_dist.config import Section, TrialConfig
from spinlock_dist.config_file import parse_config, read_assignments, with_overrides
from spinlock_dist.documents import read_document
from spinlock_dist.errors import ConfigError, did_you_mean
from spinlock_dist.preset import merge, over_preset
from study.config import SAMPLERS, TRACKERS, StoppingConfig, StudyConfig


def choices(setting: str, section: type[Section] = StudyConfig) -> tuple[str, ...]:
    """The words that a setting can be."""
    return get_args(section.model_fields[setting].annotation)


TRIALS = StudyConfig.model_fields["trials"].default

EXAMPLES = f"""examples:
  python -m study.launch                                       {TRIALS} trials on simulated operators, on all CPUs
  python -m study.launch --dataset operators.h5 --gpus 8 --trials 200 --name operators
  python -m study.launch --name operators --resume             go on with it
  python -m study.launch --name operators --extend +100        and then for 100 more trials
  python -m study.launch --space quick --trials 8              a first look in about a minute
  python -m study.launch --config study.yaml                   every setting, as in the config of runs/*/study.yaml
  python -m study.launch --config runs/operators/study.yaml --name again     the same study once more
"""


BY_OPTION = {"name": "--name", "runs": "--runs", "seed": "--seed", "space": "--space", "base.seed": "--seed"}
"""What `--set` leaves to an option, because more than the setting hangs on it."""


def _members(text: str) -> int | str:
    if text != "auto" and not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"give 'auto' or a number of trials, found '{text}'")
    return text if text == "auto" else int(text)


GROUPS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    # heading of the help: flag: the setting it gives, and how it is parsed
    "what is studied": {
        "--dataset": (
            "base.prepare.dataset",
            {"metavar": "FILE", "help": "HDF5, .parquet, .csv or .npz (default: simulated)"},
        ),
        "--space": ("space", {"metavar": "NAME|FILE", "help": "search space (default: adaptive_compression)"}),
        "--epochs": (
            "epochs",
            {"type": int, "metavar": "N", "help": "epochs of a trial (default: the space's, or the base's)"},
        ),
        "--objective": (
            "objective",
            {
                "choices": choices("objective"),
                "help": "imbalance, or a front of it, mean and utilization (default: single)",
            },
        ),
        "--tournament": (
            "tournament",
            {"action": "store_const", "const": True, "help": "as many trials for each strategy, and rank them"},
        ),
        "--seed": ("seed", {"type": int, "metavar": "N", "help": "seed of the sampler and of the trials (default: 0)"}),
        "--warm-start": (
            "warm_start",
            {
                "nargs": "+",
                "metavar": "STUDY",
                "help": "learn from earlier studies' trials of the same data and space",
            },
        ),
    },
    "how it is searched": {
        "--sampler": (
            "sampler",
            {
                "metavar": "NAME",
                "help": f"{', '.join(SAMPLERS)}, or package.Class of any Optuna sampler (default: auto)",
            },
        ),
        "--stopping": (
            "stopping.rule",
            {"choices": choices("rule", StoppingConfig), "help": "what stops poor trials early (default: asha)"},
        ),
        "--deterministic": (
            "deterministic",
            {
                "action": "store_const",
                "const": True,
                "help": "same seed, same trials, whatever the timing; see docs/faults.md",
            },
        ),
    },
    "how long": {
        "--trials": ("trials", {"type": int, "metavar": "N", "help": f"trials of the search (default: {TRIALS})"}),
        "--max-hours": ("until.hours", {"type": float, "metavar": "H", "help": "end the search after so many hours"}),
        "--max-gpu-hours": ("until.gpu_hours", {"type": float, "metavar": "H", "help": "or hours times GPUs"}),
        "--target-imbalance": (
            "until.imbalance",
            {"type": float, "metavar": "X", "help": "or when a feasible trial has this imbalance"},
        ),
        "--no-improvement": (
            "until.no_improvement",
            {"type": int, "metavar": "N", "help": "or when so many trials in a row bring none"},
        ),
        "--min-gain": (
            "until.gain",
            {"type": float, "metavar": "SHARE", "help": "or when 12 more are expected to gain less, e.g. 0.02"},
        ),
    },
    "where it runs": {
        "--gpus": (
            "cluster.gpus",
            {"type": int, "metavar": "N", "help": "GPUs in all, 0 for CPU (default: all there are)"},
        ),
        "--gpus-per-trial": (
            "cluster.gpus_per_trial",
            {"type": float, "metavar": "X", "help": "0.25: four trials a GPU"},
        ),
        "--members-per-trial": (
            "cluster.members_per_trial",
            {"type": _members, "metavar": "auto|M", "help": "trials a worker trains in lock step (default: auto)"},
        ),
        "--cpus-per-trial": (
            "cluster.cpus_per_trial",
            {"type": int, "metavar": "N", "help": "cores and threads (default: 1)"},
        ),
        "--memory-per-trial": (
            "cluster.memory_per_trial",
            {"type": float, "metavar": "GIB", "help": "memory of its node set aside for a trial"},
        ),
        "--max-concurrent": (
            "cluster.max_concurrent",
            {"type": int, "metavar": "N", "help": "trials at a time (default: as many as fit)"},
        ),
        "--address": (
            "cluster.address",
            {"metavar": "auto|HOST:PORT", "help": "join a Ray cluster instead of starting one: deploy/README.md"},
        ),
        "--wait-for-nodes": (
            "cluster.wait_for_nodes",
            {
                "type": float,
                "metavar": "SECONDS",
                "help": "wait for an autoscaling cluster, which is asked for room for all trials at a time",
            },
        ),
    },
    "where it is kept and watched": {
        "--name": ("name", {"help": "folder in runs/ (default: the space's name and the time)"}),
        "--runs": ("runs", {"metavar": "FOLDER", "help": "where studies are kept (default: runs)"}),
        "--storage": (
            "storage",
            {"metavar": "URL", "help": "Optuna storage of the trials (default: a journal file in the study's folder)"},
        ),
        "--tensorboard": (
            "tensorboard",
            {"action": "store_const", "const": True, "help": "write TensorBoard files, in runs/<study>/tensorboard"},
        ),
        "--track": (
            "track",
            {
                "nargs": "*",
                "choices": tuple(TRACKERS),
                "help": "send every training to MLflow or Weights & Biases as it ends; alone: no more",
            },
        ),
        "--dashboard-host": (
            "cluster.dashboard_host",
            {"metavar": "HOST", "help": "interface of Ray's dashboard (default: 127.0.0.1)"},
        ),
        "--no-dashboard": ("cluster.dashboard", {"action": "store_const", "const": False, "help": "no Ray dashboard"}),
    },
}
FLAGS = {flag: given for group in GROUPS.values() for flag, given in group.items()}


def make_parser() -> argparse.ArgumentParser:
    """The parser; what is not given is None, so that defaults stand in `StudyConfig` alone."""
    parser = command_parser(
        "study.launch", "Search the compression ratios that reconstruct every category equally well.", EXAMPLES
    )
    parser.usage = "%(prog)s [options]"
    for heading, flags in GROUPS.items():
        group = parser.add_argument_group(heading)
        for flag, (setting, options) in flags.items():
            group.add_argument(flag, dest=setting, **options)
    group = parser.add_argument_group("any other setting")
    group.add_argument("--config", metavar="YAML", help="settings of the study; flags override them")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the study, e.g. finals.top=3, or of its trials, e.g. model.hidden=128, as in train --set",
    )
    group = parser.add_argument_group("going on with a study")
    group.add_argument("--resume", action="store_true", help="the one called --name, or the newest")
    group.add_argument("--extend", type=_more, metavar="+N", help="likewise, however it ended, for N more trials")
    group = parser.add_argument_group("what is printed, and who is told")
    group.add_argument("--quiet", action="store_true", help="the result and nothing before it")
    group.add_argument("--dry-run", action="store_true", help="time two epochs and print what the study will cost")
    group.add_argument("--json", action="store_true", help="the result as JSON and nothing else")
    group.add_argument(
        "--notify", metavar="CMD", help="run a shell command when the study ends, however it ends: docs/watching.md"
    )
    return parser


def _more(text: str) -> int:
    if not re.fullmatch(r"\+?[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"give a number of further trials, as in --extend +100; found '{text}'")
    return int(text)


def study_config(args: argparse.Namespace) -> StudyConfig:
    """The config asked for: flags over the YAML file over, with --resume, the study as it was started.

    With --extend it asks for that many more trials than have an outcome. Raises `ConfigError`, also when there is
    nothing to go on with.
    """
    given, lines = _file(args.config, other_space=args.space is not None) if args.config else ({}, {})
    if "base" in given:
        given["base"] = over_preset(given["base"], args.config)
    flags = _from_flags(args)
    tree = merge(given, flags)
    if "prepare" in flags.get("base", {}):
        tree.pop("fingerprint", None)  # other data is asked for
    runs = Path(tree.get("runs", StudyConfig.model_fields["runs"].default))
    if args.extend and "trials" in tree:
        raise ConfigError("--extend says how many more trials, --trials how many in all: give one of them")
    if args.dry_run and (args.resume or args.extend or args.notify):
        raise ConfigError("--dry-run tells what a new study costs: leave --resume, --extend and --notify out")
    if args.resume or args.extend:
        name = tree.get("name") or _newest(runs)
        tree = merge(_stored(runs, name), {**tree, "name": name, "runs": str(runs)})
    elif "name" not in tree:
        space = Path(str(tree.get("space", StudyConfig.model_fields["space"].default))).stem
        tree["name"] = f"{space}-{datetime.now():%Y%m%d-%H%M%S}"
    config = parse_config(StudyConfig, tree, args.config or "command line", lines)
    if args.set:
        config = _with_settings(config, read_assignments(args.set))
    return _extended(config, args.extend) if args.extend else config


def _with_settings(config: StudyConfig, given: Mapping[str, Any]) -> StudyConfig:
    """The config with what `--set` gives: settings of the study, or of its trials with or without `base.` before them.

    Raises `ConfigError` for one that another option gives, and for one of the trials that the space decides.
    """
    settings = {}
    for name, value in given.items():
        if name in BY_OPTION:
            raise ConfigError(f"--set {name}: give it as {BY_OPTION[name]}")
        first, known = name.split(".")[0], {*StudyConfig.model_fields, *TrialConfig.model_fields}
        if first not in known:
            raise ConfigError(f"command line: '{name}' is not a setting{did_you_mean(first, known)}")
        of_trials = first not in StudyConfig.model_fields
        settings[f"base.{name}" if of_trials else name] = value
    _require_free(config, [name.removeprefix("base.") for name in settings if name.startswith("base.")])
    if any(name.startswith("base.prepare.") for name in settings):
        config = config.model_copy(update={"fingerprint": None})  # other data is asked for
    return with_overrides(config, settings, "command line")


def _require_free(config: StudyConfig, names: Sequence[str]) -> None:
    """Raise `ConfigError` for a setting that the search space fixes or varies: the trials would not have it."""
    from search_spaces import load_space

    if not names:
        return
    space = load_space(config.space)
    for name in names:
        if name in space.fixed:
            way_out = "give --epochs" if name == "training.epochs" else "write a space that extends it"
            raise ConfigError(f"--set {name}: space '{space.name}' fixes it at {space.fixed[name]!r}; {way_out}")
        searched = [name, name.removesuffix("high") + "span"] if name.endswith(".high") else [name]
        if any(each in space.parameters for each in searched):
            raise ConfigError(
                f"--set {name}: space '{space.name}' varies it; write a space that extends it and removes it there"
            )


def _file(path: str, other_space: bool) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """The settings in a YAML file and their lines; of a `study.yaml`, what its study was asked to do.

    Raises `ConfigError`, also when the search space of that study is no longer what it was, unless another is given.
    """
    content, lines = read_document(path)
    if content is None:
        return {}, {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of settings")
    if not {"config", "space", "fingerprint"} <= content.keys():
        return content, lines
    if not isinstance(content["config"], dict):
        raise ConfigError(f"{path}, line {lines[('config',)]}: expected a mapping of settings")
    lines = {key[1:]: line for key, line in lines.items() if key[0] == "config" and len(key) > 1}
    if not other_space:
        from study.provenance import check_space  # only now: it imports torch

        check_space(parse_config(StudyConfig, content["config"], path, lines), content["space"], path)
    return {**content["config"], "fingerprint": content["fingerprint"]}, lines


def _from_flags(args: argparse.Namespace) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for setting, _ in FLAGS.values():
        value = getattr(args, setting)
        if value is not None:
            *parents, leaf = setting.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
    if "seed" in tree:
        tree.setdefault("base", {})["seed"] = tree["seed"]
    return tree


def _stored(runs: Path, name: str) -> dict[str, Any]:
    from results.records.study_folder import open_study  # only now: it takes a second to import

    return open_study(runs, name).read_description()["config"]


def _extended(config: StudyConfig, more: int) -> StudyConfig:
    from results.records.optuna_trials import open_search
    from results.records.study_folder import StudyFolder
    from study.search.stop_criteria import with_more_trials  # Optuna takes a second to import

    folder = StudyFolder(Path(config.runs) / config.name)
    if config.tournament:
        raise ConfigError("--extend: for a longer tournament use --resume --trials N, which every strategy gets")
    if not folder.has_search:
        raise ConfigError(f"--extend: study '{config.name}' has no trials yet; go on with --resume")
    return with_more_trials(config, open_search(folder), more)


def _newest(runs: Path) -> str:
    from results.records.study_folder import study_names

    names = study_names(runs)
    if not names:
        raise ConfigError(f"--resume: there is no study in {runs}; leave --resume out to start one")
    return names[-1]
