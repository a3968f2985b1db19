"""python -m results.export NAME: a trial of a study as a file that works without the study.

A study's best trial is written with its checkpoint and what it scores, by itself; any other on request.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from results.command import explains_damage, read_named, study_parser
from results.export.spinlock import EXPORT, FORMAT_LINE, check_sidecars, export_spinlock, scores_in_words
from results.records.guards import excess_in_words
from results.records.stage import OUTCOMES
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord, arm_of
from results.verdict.sentences import spoken
from spinlock_dist.atomic_files import write_text
from spinlock_dist.command import add_overwrite
from spinlock_dist.config_file import dump_config
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.outputs import check_output

EXAMPLES = """examples:
  python -m results.export mine --out best.yaml                        the best; spinlock_dist.train --config trains it
  python -m results.export mine --trial 7 --out seven.yaml             another one
  python -m results.export cup --trial feedback/trial-5 --out f.yaml   one of a tournament, by its search
  python -m results.export mine --format spinlock --with-data --out theirs.yaml    for Spinlock's train-vqvae --config
  python -m results.export mine --trial 9 --force --out nine.yaml      although it breaks a guard
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = study_parser(
        "results.export", "Write the config of a trial to a file that needs nothing of the study.", EXAMPLES
    )
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
    parser.add_argument(
        "--with-data",
        action="store_true",
        help="with --format spinlock: also write the dataset that the file names, its features encoded and cleaned",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="YAML file to write")
    parser.add_argument("--force", action="store_true", help="export a trial even if it is not feasible")
    add_overwrite(parser)
    return parser


@explains_damage
def main(argv: list[str] | None = None) -> int:
    """Parse, read, write; print the files written, and what their format leaves out."""
    args = make_parser().parse_args(argv)
    check_output(args.out, EXPORT, overwrite=args.overwrite)
    if args.format == "spinlock":
        check_sidecars(args.out, args.overwrite, args.with_data)
    elif args.with_data:
        raise ConfigError("--with-data writes what Spinlock trains on; use it with --format spinlock")
    study = read_named(args.runs, args.name)
    record = find_trial(study, args.trial)
    if not record.feasible and not args.force:
        why = f"{spoken(record.arm)} of {study.name} is not feasible: {shortfall(record)}"
        raise SpinlockError(f"{why}; use --force to export it anyway")
    config = study.config(record)
    files: list[Path] = [args.out]
    notes: list[str] = []
    try:
        if args.format == "native":
            write_text(args.out, _head(study, record) + dump_config(config))
        else:
            files, notes = export_spinlock(study.folder, record, config, args.out, args.with_data)
    except OSError as error:
        raise SpinlockError(f"{error.filename or args.out}: cannot be written: {error.strerror}") from None
    print(f"{spoken(record.arm)} of {study.name}: {', '.join(map(str, files))}")
    print("".join(f"{note}\n" for note in notes), end="")
    return 0


# ---------------------------------------------------------------- which trial


def find_trial(study: StudyRecord, name: str | None) -> TrialRecord:
    """The trial of the search called `name`; the best one if no name is given.

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
        raise ConfigError(f"{spoken(arm)} of {study.name} has not finished")
    searches = sorted({arm_of(each) for each in known})
    if search not in searches and any(searches):
        raise ConfigError(f"--trial {name}: {study.name} is a tournament; name the search too, e.g. {known[0]}")
    if search and known and search not in searches:
        raise ConfigError(f"--trial {name}: {study.name} is not a tournament; give the number alone, e.g. 0")
    numbers = [each.rpartition("-")[2] for each in known if arm_of(each) == search]
    there = f"its trials: {numbers[0]} to {numbers[-1]}" if numbers else "none has finished"
    raise ConfigError(f"--trial {name}: study '{study.name}' has no such trial; {there}")


def shortfall(record: TrialRecord) -> str:
    """Why a trial is not feasible: which guards it breaks and how far, or how it ended."""
    if record.state != "complete":
        return ": ".join(filter(None, (OUTCOMES[record.state], " ".join(record.reason.split()))))
    broken = f"it breaks {excess_in_words(record.guards)}" if record.broken_guards else ""
    return "; ".join(filter(None, (broken, record.kind)))


def _head(study: StudyRecord, record: TrialRecord) -> str:
    """Where the config comes from, its scores and how to reproduce them, as comments."""
    versions = study.description.get("versions", {})
    threads = study.description.get("hardware", {}).get("cpus_per_trial", 1)
    lines = [f"{spoken(record.arm)} of study {study.name}, {scores_in_words(record)}"]
    lines += [] if record.feasible else [f"not feasible: {shortfall(record)}"]
    lines += [
        f"data: {study.fingerprint}",
        "; ".join(f"{name} {versions[name]}" for name in ("spinlock-dist", "torch") if versions.get(name)),
        "reproduces these figures on the same machine with as many threads:",
        f"OMP_NUM_THREADS={threads} python -m spinlock_dist.train --config THIS_FILE",
    ]
    return FORMAT_LINE + "".join(f"# {line}\n" for line in lines if line)
