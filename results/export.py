"""python -m results.export NAME: a trial of a study as a file that works without the study.

A study's best trial is written with its checkpoint and what it scores, by itself; any other on request.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from results.analysis.trial_summary import WORDS
from results.command import command_parser, read_named
from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord, arm_of
from results.verdict.verdict import FIGURES, Finding, spoken
from spinlock_dist.atomic_files import read_json, replacing_folder, write_json, write_text
from spinlock_dist.checkpoint_metadata import META, read_meta
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.ratios import allocate_ratios
from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.config import TrialConfig, dump_config, parse_config
from spinlock_dist.errors import ConfigError, SpinlockError, run_command
from spinlock_dist.interop.spinlock_writer import to_spinlock

EXAMPLES = """examples:
  python -m results.export mine --out best.yaml                        the best; spinlock_dist.train --config trains it
  python -m results.export mine --trial 7 --out seven.yaml             another one
  python -m results.export cup --trial feedback/trial-5 --out f.yaml   one of a tournament, by its search
  python -m results.export mine --format spinlock --out theirs.yaml    for Spinlock's train-vqvae --config
  python -m results.export mine --trial 9 --force --out nine.yaml      although it breaks a guard
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, read, write, print what was written and what could not be said."""
    parser = command_parser("export", "Write the config of a trial as a file that works without the study.", EXAMPLES)
    parser.add_argument("name", help="study")
    parser.add_argument(
        "--trial", metavar="TRIAL", help="number, or in a tournament SEARCH/trial-N (default: the best of the study)"
    )
    parser.add_argument(
        "--format",
        choices=("native", "spinlock"),
        default="native",
        help="native: for python -m spinlock_dist.train; spinlock: for Spinlock's train-vqvae, and its category files "
        "beside it (default native)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="YAML file to write")
    parser.add_argument("--force", action="store_true", help="export a trial that is not feasible as well")
    args = parser.parse_args(argv)
    study = read_named(args.runs, args.name)
    record = find_trial(study, args.trial)
    if not record.feasible and not args.force:
        why = f"{spoken(record.arm)} of {study.name} is not feasible: {shortfall(record)}"
        raise SpinlockError(f"{why}; --force exports it all the same")
    config = study.config(record)
    files: list[Path] = [args.out]
    notes: list[str] = []
    try:
        if args.format == "native":
            write_text(args.out, _head(study, record) + dump_config(config))
        else:
            files, notes = export_spinlock(study.folder, record, config, args.out)
    except OSError as error:
        raise SpinlockError(f"{error.filename or args.out}: cannot be written: {error.strerror}") from None
    print(f"{spoken(record.arm)} of {study.name}: {', '.join(map(str, files))}")
    print("".join(f"not said: {note}\n" for note in notes), end="")
    return 0


# ---------------------------------------------------------------- which trial


def find_trial(study: StudyRecord, name: str | None) -> TrialRecord:
    """Return the trial of the search that is called `name`, the best one if no name is given.

    Names: `7`, `trial-7`; in a tournament `feedback/7`, `feedback/trial-7`. Raises `ConfigError` if there is none.
    """
    if name is None:
        if study.best is None:
            raise ConfigError(f"study '{study.name}' has no feasible trial; name one with --trial")
        return study.best
    search, _, number = name.rpartition("/")
    arm = f"{search}/" * bool(search) + (f"trial-{number}" if number.isdecimal() else number)
    known = [record.arm for record in study.search]
    found = next((record for record in study.search if record.arm == arm), None)
    if found is not None:
        return found
    if arm in study.running:
        raise ConfigError(f"{spoken(arm)} of {study.name} has no outcome yet")
    searches = sorted({arm_of(each) for each in known})
    if search not in searches and any(searches):
        raise ConfigError(f"--trial {name}: {study.name} is a tournament; name the search too, e.g. {known[0]}")
    if search and known and search not in searches:
        raise ConfigError(f"--trial {name}: {study.name} is no tournament; its number is enough, e.g. 0")
    numbers = [each.rpartition("-")[2] for each in known if arm_of(each) == search]
    there = f"its trials: {numbers[0]} to {numbers[-1]}" if numbers else "none has ended yet"
    raise ConfigError(f"--trial {name}: study '{study.name}' has no such trial; {there}")


def shortfall(record: TrialRecord) -> str:
    """Return why a trial is not feasible: the guards it breaks, and by how much, or how it ended."""
    if record.state != "complete":
        return ": ".join(filter(None, (WORDS[record.state], " ".join(record.reason.split()))))
    broken = [f"{name} by {value:.1%}" for name, value in record.guards.items() if value > 0]
    return "; ".join([f"it breaks {', '.join(broken)}"] * bool(broken) + [record.kind] * bool(record.kind))


def _head(study: StudyRecord, record: TrialRecord) -> str:
    """Return what a reader of the file should know, as comments."""
    versions = study.description.get("versions", {})
    threads = study.description.get("hardware", {}).get("cpus_per_trial", 1)
    lines = [f"{spoken(record.arm)} of study {study.name}, {_scores(record)}"]
    lines += [] if record.feasible else [f"not feasible: {shortfall(record)}"]
    lines += [
        f"data: {study.fingerprint}",
        "; ".join(f"{name} {versions[name]}" for name in ("spinlock-dist", "torch") if versions.get(name)),
        "the same machine and as many threads give the same figures:",
        f"OMP_NUM_THREADS={threads} python -m spinlock_dist.train --config THIS_FILE",
    ]
    return "".join(f"# {line}\n" for line in lines if line)


def _scores(record: TrialRecord) -> str:
    metrics = record.metrics
    if metrics is None:
        return record.state
    figures = f"imbalance {metrics.imbalance:.4g}, FVU worst {metrics.fvu_worst:.4g} and mean {metrics.fvu_mean:.4g}"
    return f"{figures} on the validation rows"


# ---------------------------------------------------------------- for Spinlock


def export_spinlock(
    folder: StudyFolder, record: TrialRecord, config: TrialConfig, out: Path
) -> tuple[list[Path], list[str]]:
    """Write a trial as Spinlock's YAML, and its categories beside it; return the files and what they cannot say.

    `<out>.columns.json` holds the numbers of each category's columns, as Spinlock reads them, `<out>.categories.json`
    their names, as this program does. Raises `SpinlockError` if ratios or categories are not to be had.
    """
    ratios = trial_ratios(folder, record, config)
    names = _kept(folder.categories)
    order = {name: column for column, name in enumerate(_columns(folder))}
    unknown = [name for features in names.values() for name in features if name not in order]
    if unknown or ratios.keys() != names.keys():
        raise SpinlockError(f"{folder.prepared}: the files there contradict each other; prepare the study anew")
    columns, categories = out.with_suffix(".columns.json"), out.with_suffix(".categories.json")
    families = list(dict.fromkeys(name.split("::")[0] for name in order))
    text, notes = to_spinlock(config, ratios, families, str(columns))
    notes.append(
        "category_mapping_file: numbers of the columns that cleaning left here; where it leaves others there, go by "
        f"their names in {categories}; to read them here: --set prepare.categories.mapping={categories}"
    )
    head = f"{spoken(record.arm)} of study {folder.name}, {_scores(record)}"
    write_json(columns, {category: [order[name] for name in features] for category, features in names.items()})
    write_json(categories, names)
    write_text(out, f"# {head}\n" + "".join(f"# not said: {note}\n" for note in notes) + text)
    return [out, columns, categories], notes


def trial_ratios(folder: StudyFolder, record: TrialRecord, config: TrialConfig) -> dict[str, list[float]]:
    """Return the ratios of L0, L1 and L2 by category: from the trial's checkpoint, else as its strategy gives them.

    Raises `SpinlockError` for a strategy that trains pilots, where the checkpoint that knows their outcome is not kept.
    """
    own = folder.arm(arm_of(record.arm)).checkpoint(record.number)
    for path in (own, folder.best / "checkpoint"):
        if path.is_dir() and (meta := read_meta(path)) and (path == own or _config_of(meta) == config):
            try:
                return dict(zip(meta["categories"], meta["plan"]["ratios"], strict=True))
            except (KeyError, TypeError, ValueError):
                raise SpinlockError(f"{path / META}: says nothing of ratios") from None
    strategy = config.compression.strategy
    if get_strategy(strategy).measured:
        raise SpinlockError(
            f"{spoken(record.arm)} of {folder.name}: the ratios of {strategy} come from pilots, and the checkpoint "
            "that has them is not kept; use --format native, or a study with more --keep-checkpoints"
        )
    found = _kept(folder.summary)["characteristics"]
    each = [Characteristics(**{**one, "spectrum": tuple(one["spectrum"])}) for one in found.values()]
    return dict(zip(found, np.asarray(allocate_ratios(config.compression, each)).tolist(), strict=True))


def _config_of(meta: dict[str, Any]) -> TrialConfig | None:
    """Return the config of a checkpoint, None if this version cannot read it."""
    try:
        return parse_config(TrialConfig, meta.get("config"), META)
    except ConfigError:
        return None


def _columns(folder: StudyFolder) -> list[str]:
    """Return the features that cleaning kept, in the order of the columns."""
    from pyarrow import parquet

    path = folder.prepared / "ledger.parquet"
    try:
        ledger = parquet.ParquetFile(path).read(columns=["feature", "dropped"]).to_pylist()
    except (OSError, ValueError) as error:
        raise SpinlockError(f"{path}: cannot be read: {error}") from None
    return [row["feature"] for row in ledger if row.get("dropped") is None]


def _kept(path: Path) -> Any:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise SpinlockError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise SpinlockError(f"{path}: not what a study writes there")
    return content


# ---------------------------------------------------------------- the best of a study


def export_config(best: Path, config: TrialConfig, checkpoint: Path) -> Path:
    """Write config.yaml and a copy of the checkpoint into the folder `best`, and return the config's path.

    `python -m spinlock_dist.train --config best/config.yaml` trains the same model again.
    """
    path = best / "config.yaml"
    write_text(path, dump_config(config))
    with replacing_folder(best / "checkpoint") as draft:
        shutil.copytree(checkpoint, draft, dirs_exist_ok=True)
    return path


def withdraw_export(folder: StudyFolder) -> None:
    """Remove an export that is no longer the best."""
    shutil.rmtree(folder.best, ignore_errors=True)


def export_readme(
    folder: StudyFolder, record: TrialRecord, baseline: TrialRecord, finding: Finding, conclusion: str
) -> None:
    """Write best/README.md: what this is, what was found, the figures beside the baseline's, how to use it."""
    text = [
        f"# Best config of study {folder.name}: {spoken(record.arm)}",
        conclusion,
        _table(record, baseline, finding),
        "Validation: of the study's own split. Test: geometric mean over the replicates of this config's figure / the "
        "uniform baseline's, and its interval. FVU is the fraction of variance unexplained: 0 perfect, 1 useless. "
        "`verdict.json` beside this folder holds every figure." + _beyond(finding),
        "```\npython -m spinlock_dist.train --config config.yaml    # trains it again\n```",
        "`checkpoint/` is the trial's own model, for `spinlock_dist.checkpoint.load_checkpoint`. `spinlock.yaml` is "
        "its config for Spinlock's `train-vqvae`, with the categories beside it; it begins with what that leaves out.",
    ]
    write_text(folder.best / "README.md", "\n\n".join(text) + "\n")


def _beyond(finding: Finding) -> str:
    if finding.new_data is None:
        return ""
    low, high = finding.new_data
    return (
        " Splits of the same rows overlap: for other rows of the same kind the interval of the ratio of imbalances is "
        f"{low:.3g} to {high:.3g}."
    )


def _table(record: TrialRecord, baseline: TrialRecord, finding: Finding) -> str:
    assert record.metrics is not None and baseline.metrics is not None
    lines = ["| | validation: this / baseline | test: ratio to the baseline's |", "|---|---|---|"]
    for name, figure in FIGURES.items():
        shown = str(finding.effects.get(name, ""))
        lines.append(f"| {name} | {figure(record.metrics):.4g} / {figure(baseline.metrics):.4g} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
