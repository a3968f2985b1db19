"""python -m study.check FILE...: whether files, or a cluster, can be used, before anything is started."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from spinlock_dist.command import command_parser
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import load_config, parse_config
from spinlock_dist.documents import read_document
from spinlock_dist.errors import FAILURE, ConfigError, SpinlockError, run_command
from study.config import ClusterConfig, StudyConfig

EXAMPLES = """examples:
  python -m study.check my.yaml trial.yaml      a search space, a config, a mapping of categories
  python -m study.check operators.h5            a dataset, prepared as a training would; more about it: data
  python -m study.check runs/mine               every file of a study
  python -m study.check ckpt --json
  python -m study.check --cluster auto --runs /shared/runs     every node: versions, folder, GPUs, a small trial

Exits with 1 if one of them cannot be used, with 2 if the cluster cannot be joined.
"""

DOCUMENTS = (".yaml", ".yml", ".json")
PER_TRIAL = (
    ("cpus", int, "cores of a trial (default: 1)"),
    ("gpus", float, "share of a GPU of a trial (default: a whole one)"),
    ("memory", float, "GiB of a trial"),
)
DATASETS = (".h5", ".hdf5", ".hdf", ".parquet", ".csv", ".npz")


def main(argv: list[str] | None = None) -> int:
    """Parse, check, print a line a file. Returns 1 if one of them cannot be used."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if bool(args.paths) == bool(args.cluster):
        parser.error("name files, or a cluster with --cluster")
    if args.cluster:
        return _check_cluster(args)
    told = []
    for path in args.paths:
        try:
            told.append({"path": str(path), "usable": True, "told": check(path)})
        except SpinlockError as error:
            told.append({"path": str(path), "usable": False, "told": str(error)})
        if not args.json:
            said = (
                told[-1]["told"] if told[-1]["usable"] else f"cannot be used: {_without(path, str(told[-1]['told']))}"
            )
            print(f"{path}: {said}", flush=True)
    if args.json:
        print(json.dumps(told))
    return 0 if all(each["usable"] for each in told) else FAILURE


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "study.check",
        "Say whether files can be used (configs, spaces, datasets, checkpoints, studies), or a Ray cluster.",
        EXAMPLES,
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE", help="files and folders, of any kind")
    cluster = parser.add_argument_group("a cluster")
    cluster.add_argument("--cluster", metavar="auto|HOST:PORT", help="Ray cluster: about a minute, also while it works")
    cluster.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies will be kept")
    for name, kind, text in PER_TRIAL:
        cluster.add_argument(f"--{name}-per-trial", type=kind, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _check_cluster(args: argparse.Namespace) -> int:
    """Look at every node and print what was found. Returns 1 if something is wrong."""
    from study.cluster_check import check_cluster

    given = {f"{name}_per_trial": getattr(args, f"{name}_per_trial") for name, *_ in PER_TRIAL}
    given = {name: value for name, value in given.items() if value is not None}
    found = check_cluster(parse_config(ClusterConfig, {"address": args.cluster, **given}, "options"), args.runs)
    print(json.dumps(found.to_json()) if args.json else "\n".join(found.lines()))
    return FAILURE if found.wrong else 0


def check(path: Path) -> str:
    """What a file or folder is, in words. Raises `SpinlockError` if it is missing, wrong, or none of ours."""
    if path.is_dir():
        return _study(path) if (path / "study.yaml").exists() else _checkpoint(path)
    if path.suffix.lower() in DATASETS:
        return _dataset(path)
    if path.suffix.lower() in DOCUMENTS:
        return _document(path)
    raise ConfigError(
        f"not known by its name; known: folders of studies, checkpoints, {', '.join(DATASETS + DOCUMENTS)}"
    )


def _without(path: Path, message: str) -> str:
    """A message without the path that it may begin with."""
    return message.removeprefix(str(path)).lstrip(":, ")


def _study(path: Path) -> str:
    from results.analysis.trial_summary import outcomes_in_words
    from results.records.study_folder import StudyFolder
    from results.records.study_record import read_study

    study = read_study(StudyFolder(path))
    if study.problems:
        raise SpinlockError("; ".join(study.problems))
    return f"a study: {study.stands}; {outcomes_in_words(study.search)}"


def _checkpoint(path: Path) -> str:
    from spinlock_dist.checkpoint import load_checkpoint

    tokenizer = load_checkpoint(path, device="cpu")
    features = len(tokenizer.pipeline.feature_names)
    return f"a checkpoint: {features} features in {len(tokenizer.categories)} categories"


def _dataset(path: Path) -> str:
    from spinlock_dist.data_info import data_info

    info = data_info(TrialConfig().prepare.model_copy(update={"dataset": str(path)}))
    if info.taken is None:
        raise SpinlockError("; ".join(info.refused))
    rows, categories = sum(info.taken.rows.values()), len(info.taken.categories)
    return f"a dataset: {rows} rows, {info.taken.columns} columns in {categories} categories"


def _document(path: Path) -> str:
    from search_spaces import load_space
    from search_spaces.show import size_text
    from spinlock_dist.categories.mapping import read_names
    from spinlock_dist.interop.spinlock_reader import is_spinlock_yaml, load_spinlock_yaml

    content, _ = read_document(path)
    if not isinstance(content, dict):
        raise ConfigError("expected a mapping of settings")
    if {"parameters", "extends"} & content.keys():
        return f"a search space: {size_text(load_space(path))}"
    if content and all(isinstance(value, list) for value in content.values()):
        return f"a mapping of {len(read_names(str(path)))} categories"
    if is_spinlock_yaml(path):
        config, left_out = load_spinlock_yaml(path)
        return f"a config of Spinlock's{_data_of(config)}" + (f"; not mapped: {len(left_out)}" if left_out else "")
    if _is_study(content):
        return _study_config(path)
    return f"a trial config{_data_of(load_config(path))}"


def _is_study(content: dict[str, Any]) -> bool:
    """Whether a document has settings of a study, or is a study.yaml."""
    only = StudyConfig.model_fields.keys() - TrialConfig.model_fields.keys()
    return bool({"config", "fingerprint", *only} & content.keys())


def _study_config(path: Path) -> str:
    from study.launch_options import make_parser as launch_parser
    from study.launch_options import study_config
    from study.provenance import study_space

    config = study_config(launch_parser().parse_args(["--config", str(path)]))
    return f"a study config: {config.trials} trials of space {study_space(config).name}{_data_of(config.base)}"


def _data_of(config: TrialConfig) -> str:
    """On which data. Raises `ConfigError` if that is not there."""
    dataset = config.prepare.dataset
    if dataset is not None and not Path(dataset).exists():
        raise ConfigError(f"prepare.dataset: {dataset} is not there")
    return f", on {dataset or 'simulated operators'}"


if __name__ == "__main__":
    run_command(main)
