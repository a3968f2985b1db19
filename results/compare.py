"""python -m results.compare A B ...: studies side by side, where their figures are comparable."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from results.analysis.trial_summary import count_outcomes
from results.command import explains_damage, read_named, study_parser
from results.records.effect import Effect
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from spinlock_dist.errors import ConfigError, run_command

EXAMPLES = """examples:
  python -m results.compare first second               two studies of the same data, training, guards and budget
  python -m results.compare tpe random --reach 3.0     how many trials each took to an imbalance of 3
  python -m results.compare old new --anyway           others: only what each gained on its own baseline
  python -m results.compare first second --json
"""

GIVEN_UP = "use --anyway to compare each with its own baseline only"


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = study_parser("results.compare", "Put studies side by side.", EXAMPLES)
    parser.add_argument("names", nargs="+", metavar="NAME", help="studies, two or more")
    parser.add_argument(
        "--reach",
        type=float,
        metavar="X",
        help="count trials until an imbalance of X (default: the lowest that all reached)",
    )
    parser.add_argument(
        "--anyway", action="store_true", help="compare studies that differ in these, each with its own baseline only"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@explains_damage
def main(argv: list[str] | None = None) -> int:
    """Parse, read, compare, print. Reads only."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if len(args.names) < 2 or len(set(args.names)) < len(args.names):
        parser.error("name two or more different studies")
    if args.reach is not None and args.reach < 1:
        parser.error("--reach: an imbalance is at least 1")
    studies = [read_named(args.runs, name) for name in args.names]
    found = list(differences(studies))
    if found and not args.anyway:
        raise ConfigError(f"not comparable: {in_words(found[0])}{_more(found)};\n{GIVEN_UP}")
    if found and args.reach is not None:
        raise ConfigError("--reach: imbalances of these studies are not comparable; leave it out")
    reach = None if found else args.reach or worst_best(studies)
    rows = [compare(study, reach) for study in studies]
    if args.json:
        told = {"reach": reach, "differences": [asdict(each) for each in found]}
        print(json.dumps({**told, "studies": [asdict(row) for row in rows]}))
    else:
        _show(rows, found, reach)
    return 0


# ---------------------------------------------------------------- may they be compared?


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting that decides what a figure means and differs between two studies."""

    part: str
    values: dict[str, Any]
    """By study: the first one, and the first that differs from it."""


def differences(studies: Sequence[StudyRecord]) -> Iterator[Difference]:
    """Yield what makes the figures of the studies incomparable, the easiest to change first."""
    first, *others = studies
    ours, theirs = terms(first), {other.name: terms(other) for other in others}
    for part in dict.fromkeys(part for each in (ours, *theirs.values()) for part in each):
        other = next((name for name, each in theirs.items() if each.get(part) != ours.get(part)), None)
        if other is not None:
            values = {first.name: ours.get(part), other: theirs[other].get(part)}
            yield Difference(part=part, values=values)


def terms(study: StudyRecord) -> dict[str, Any]:
    """The settings that decide what a study's figures mean: those of its baseline, its guards and its data.

    Raises `SpinlockError` if study.yaml does not hold them.
    """
    base = study.base()
    guards = study.description["config"].get("guards", {})
    return {
        "training.epochs": base.training.epochs,
        "prepare.normalization": base.prepare.normalization,
        "compression.max_codes": base.compression.max_codes,
        "compression.min_rows_per_code": base.compression.min_rows_per_code,
        "quantizer.kind": base.quantizer.kind,
        **{f"guards.{name}": value for name, value in guards.items()},
        "fingerprint of the data": study.fingerprint,
    }


def in_words(difference: Difference) -> str:
    """A difference as `epochs: 40 in a, 20 in b`."""
    values = (f"{_short(value)} in {name}" for name, value in difference.values.items())
    return f"{difference.part}: {', '.join(values)}"


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 24 else str(value)


def _more(found: Sequence[Difference]) -> str:
    others = ", ".join(each.part for each in found[1:])
    return f" (and {others})" if others else ""


# ---------------------------------------------------------------- what is compared


@dataclass(frozen=True, kw_only=True)
class Row:
    """One study. Its best trial and its baseline are scored on the validation rows; ratios are best / baseline."""

    study: str
    state: str
    trials: int
    """Finished, whatever the outcome."""
    feasible: int
    seconds: float
    """Total wall time of these trials."""
    best: str | None
    """The exported trial, else the feasible one of lowest imbalance; None if none is feasible."""
    imbalance: float | None
    fvu_worst: float | None
    fvu_mean: float | None
    utilization: float | None
    bits_per_sample: float | None
    bits_carried_per_sample: float | None
    baseline_imbalance: float | None
    imbalance_ratio: float | None
    worst_ratio: float | None
    mean_ratio: float | None
    replicated: dict[str, Effect]
    """Ratios of its figures to the baseline's on the test rows; empty without finals."""
    verdict: str | None
    reached: int | None
    """Trials until the first feasible one at or below `reach`; None if none got there."""


def compare(study: StudyRecord, reach: float | None) -> Row:
    """A study's row. Trials count in the order they were suggested, in a tournament search by search."""
    best, counts = study.best, count_outcomes(study.search)
    score = best.metrics if best else None
    base = study.baseline.metrics if study.baseline else None
    found = {each.get("arm"): each.get("verdict") for each in (study.verdict or {}).get("findings", [])}
    return Row(
        study=study.name,
        state=study.state,
        trials=counts["trials"],
        feasible=counts["feasible"],
        seconds=sum(record.seconds for record in study.search),
        best=best.arm if best else None,
        imbalance=score.imbalance if score else None,
        fvu_worst=score.fvu_worst if score else None,
        fvu_mean=score.fvu_mean if score else None,
        utilization=score.utilization if score else None,
        bits_per_sample=score.bits_per_sample if score else None,
        bits_carried_per_sample=score.bits_carried_per_sample if score else None,
        baseline_imbalance=base.imbalance if base else None,
        imbalance_ratio=score.imbalance / base.imbalance if score and base else None,
        worst_ratio=score.fvu_worst / base.fvu_worst if score and base else None,
        mean_ratio=score.fvu_mean / base.fvu_mean if score and base else None,
        replicated=study.effects.get(best.arm, {}) if best else {},
        verdict=found.get(best.arm) if best else None,
        reached=None if reach is None else trials_until(study.search, reach),
    )


def worst_best(studies: Sequence[StudyRecord]) -> float | None:
    """The lowest imbalance that every study with a feasible trial has reached; None if no study has one."""
    bests = [study.best.metrics.estimate("imbalance") for study in studies if study.best and study.best.metrics]
    return max(bests, default=None)


def trials_until(search: Sequence[TrialRecord], reach: float) -> int | None:
    """Number of trials up to the first feasible one with an imbalance of at most `reach`; None if there is none."""
    for count, record in enumerate(search, start=1):
        if (
            record.feasible
            and record.metrics is not None
            and record.metrics.estimate("imbalance") <= reach * (1 + 1e-12)
        ):
            return count
    return None


# ---------------------------------------------------------------- the table


def _show(rows: Sequence[Row], found: Sequence[Difference], reach: float | None) -> None:
    """Print the studies as columns, in as many tables as they take: they are few, their figures many."""
    from spinlock_dist.fitted_table import Column, FittedTable
    from spinlock_dist.shown import terminal_console

    console = terminal_console()
    lines = _ratios if found else _figures
    figures = {row.study: lines(row, reach) for row in rows}
    labels = list(next(iter(figures.values())))
    for names in _beside(figures, console.width - max(map(len, labels))):
        table = FittedTable([Column("", left=True), *(Column(name) for name in names)])
        for label in labels:
            table.add_row(label, *(figures[name][label] for name in names))
        console.print(table)
    for each in found:
        console.print(f"different: {in_words(each)}", highlight=False, soft_wrap=True)
    if found:
        console.print(
            "so only ratios to each study's own baseline are shown, and even these may not mean the same",
            highlight=False,
        )
    console.print(
        "validation rows; test: ratio to the baseline's on the test rows, with its interval",
        highlight=False,
    )


def _beside(figures: Mapping[str, Mapping[str, str]], width: int) -> list[list[str]]:
    """The studies in groups whose columns, two spaces before each, take at most `width`; a wide one is a group."""
    groups: list[list[str]] = [[]]
    left = width
    for name, told in figures.items():
        takes = 2 + max(map(len, (name, *told.values())))
        if takes > left and groups[-1]:
            groups.append([])
            left = width
        groups[-1].append(name)
        left -= takes
    return groups


def _figures(row: Row, reach: float | None) -> Mapping[str, str]:
    until = {f"trials to {reach:.4g}x": "not reached" if row.reached is None else str(row.reached)} if reach else {}
    return {
        "best trial": row.best or "none feasible",
        "imbalance": _of(row.imbalance, "{:.2f}x"),
        "baseline's": _of(row.baseline_imbalance, "{:.2f}x"),
        **_replicated(row),
        "FVU worst": _of(row.fvu_worst, "{:.3f}"),
        "FVU mean": _of(row.fvu_mean, "{:.3f}"),
        "utilization": _of(row.utilization, "{:.0%}"),
        "bits": _of(row.bits_per_sample, "{:.1f}"),
        "bits carried": _of(row.bits_carried_per_sample, "{:.1f}"),
        **_effort(row),
        **until,
    }


def _ratios(row: Row, _: float | None) -> Mapping[str, str]:
    return {
        "best trial": row.best or "none feasible",
        "imbalance / baseline's": _of(row.imbalance_ratio, "{:.2f}"),
        **_replicated(row),
        "FVU worst / baseline's": _of(row.worst_ratio, "{:.2f}"),
        "FVU mean / baseline's": _of(row.mean_ratio, "{:.2f}"),
        **_effort(row),
    }


def _replicated(row: Row) -> dict[str, str]:
    """The verdict, and on the test rows what it rests on."""
    labels = {"imbalance": "test: imbalance", "fvu_worst": "test: worst", "fvu_mean": "test: mean"}
    return {
        "verdict": row.verdict or "",
        **{label: _interval(row.replicated.get(name)) for name, label in labels.items()},
    }


def _effort(row: Row) -> dict[str, str]:
    return {
        "trials": f"{row.trials} ({row.feasible} feasible)",
        "trial hours": f"{row.seconds / 3600:.3g}",
        "state": row.state,
    }


def _of(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _interval(effect: Effect | None) -> str:
    return "" if effect is None else str(effect)


if __name__ == "__main__":
    run_command(main)
