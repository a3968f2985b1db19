"""python -m results.leaderboard NAME: the trials of a study in order of merit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from results.analysis.levelling import levelling
from results.command import command_parser, read_named
from results.records.trial_record import TrialRecord, arm_of
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.errors import run_command
from spinlock_dist.metrics.record import Metrics

if TYPE_CHECKING:
    from results.records.study_record import StudyRecord
    from results.verdict.paired_tests import Effect

EXAMPLES = """examples:
  python -m results.leaderboard mine               the ten best trials, also while the study runs
  python -m results.leaderboard mine --rows 50
  python -m results.leaderboard mine --json        every trial that completed, for scripts
"""

SHOWN = 10
"""Trials in the table, unless the user says how many."""


def main(argv: list[str] | None = None) -> int:
    """Parse, read, print. Reads only; a study may be running meanwhile."""
    parser = command_parser("leaderboard", "Show the trials of a study in order of merit.", EXAMPLES)
    parser.add_argument("name", help="study")
    parser.add_argument("--rows", type=int, metavar="N", help=f"trials shown (default {SHOWN}, all with --json)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    if args.rows is not None and args.rows < 1:
        parser.error("--rows: at least 1")
    study = read_named(args.runs, args.name)
    if args.json:
        print(json.dumps(_as_json(study, args.rows)))
    else:
        _show(study, args.rows or SHOWN)
    return 0


# ---------------------------------------------------------------- the table


def ranking(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the completed trials, feasible before infeasible, each by imbalance."""
    completed = [record for record in records if record.state == "complete" and record.metrics is not None]
    return sorted(completed, key=lambda record: (not record.feasible, _score(record).log10_imbalance, record.number))


def leaderboard(
    baseline: TrialRecord,
    search: Sequence[TrialRecord],
    rows: int = 8,
    front: Sequence[TrialRecord] = (),
    replicated: Mapping[str, Effect] | None = None,
) -> Table:
    """Return `front`, and then the first `rows` of the ranking, below the baseline's first training.

    On the validation rows; `replicated` are the ratios of imbalances to the baseline's on the test rows of replicates,
    by arm. help and hurt: factors by which the imbalance fell because the worst category got better, and because the
    best got worse (levelling down). Only trials that keep every guard have a rank.
    """
    table = Table(title="validation rows", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.caption = _caption(front, replicated)
    table.caption_justify = "left"
    for column in ("rank", "trial", "imbalance", "worst", "mean", "util", "help", "hurt", "settings"):
        justify: Any = "left" if column in ("trial", "settings") else "right"
        table.add_column(column, justify=justify, no_wrap=column != "settings", overflow="fold")
    table.add_row("", "baseline", *_figures(_score(baseline)), "", "", "uniform")
    ranked = ranking(search)
    places = {id(record): str(place) for place, record in enumerate(ranked, start=1) if record.feasible}
    rest = [record for record in ranked if record not in front]
    for record in [*front, *rest[: max(0, rows - len(front))]]:
        gain = levelling(_score(record), _score(baseline))
        factors = (f"{10**gain.worst_helped:.2f}", f"{10**gain.best_hurt:.2f}")
        lines = [settings(record)]
        if effect := (replicated or {}).get(record.arm):
            lines.append(f"x{effect.ratio:.2f} ({effect.low:.2f}-{effect.high:.2f})")
        if not record.feasible:
            lines.append(f"breaks {broken_guards(record)}" if broken_guards(record) else record.kind)
        trial = f"{arm_of(record.arm)} {record.number}".strip() + ("*" if record in front else "")
        style = "" if record.feasible else "dim"
        place = places.get(id(record), "")
        table.add_row(place, trial, *_figures(_score(record)), *factors, "\n".join(filter(None, lines)), style=style)
    return table


def _caption(front: Sequence[TrialRecord], replicated: Mapping[str, Effect] | None) -> str:
    lines = ["help x hurt: the imbalance fell as the worst got better x as the best got worse"]
    if replicated:
        lines.append("x: imbalance / the baseline's on the test rows of the replicates, and interval")
    if front:
        lines.append("*: the front, which no feasible trial beats in imbalance, mean and util at once")
    return "\n".join(lines)


def settings(record: TrialRecord) -> str:
    """Return the choices of a trial in a few words, e.g. `balanced graded codes`; no rule where a strategy has none."""
    strategy = STRATEGIES.get(record.params.get("compression.strategy", ""))
    idle = {"compression.rule"} if strategy and not strategy.has_rule else set()
    return " ".join(value for name, value in record.params.items() if isinstance(value, str) and name not in idle)


def broken_guards(record: TrialRecord) -> str:
    """Return the names of the guards that a trial oversteps, empty if it keeps them all."""
    return ", ".join(name for name, value in record.guards.items() if value > 0)


def _figures(metrics: Metrics) -> tuple[str, ...]:
    return (
        f"{metrics.imbalance:.2f}x",
        f"{metrics.fvu_worst:.3f}",
        f"{metrics.fvu_mean:.3f}",
        f"{metrics.utilization:.0%}",
    )


def _score(record: TrialRecord) -> Metrics:
    assert record.metrics is not None
    return record.metrics


# ---------------------------------------------------------------- the command


def _show(study: StudyRecord, rows: int) -> None:
    from results.analysis.trial_summary import outcomes_in_words
    from results.verdict.standings import standing_of, tournament_table

    console = Console()
    running = f", {len(study.running)} trials without an outcome" if study.running else ""
    console.print(f"{study.name}: {study.state}{running}", highlight=False)
    if study.standings:
        console.print(tournament_table([standing_of(row) for row in study.standings]))
    baseline = study.baseline
    if baseline is None or baseline.metrics is None:
        console.print("its baseline is not trained yet, and without it no trial is ranked", highlight=False)
        return
    # In a tournament the intervals stand above, by strategy.
    replicated = None if study.standings else study.replicated
    console.print(leaderboard(baseline, study.search, rows, study.front, replicated))
    console.print(outcomes_in_words(study.search), highlight=False)
    if study.verdict and (conclusion := study.verdict.get("conclusion")):
        console.print(conclusion, highlight=False)


def _as_json(study: StudyRecord, rows: int | None) -> dict[str, Any]:
    """Return the ranking as plain data. Ratios to the baseline's are of imbalances on the replicates' test rows."""
    baseline = study.baseline.metrics if study.baseline else None
    replicated = study.replicated
    shared = study.base().compression
    trials = []
    for place, record in enumerate(ranking(study.search)[:rows], start=1):
        metrics = _score(record)
        gain = levelling(metrics, baseline) if baseline else None
        trials.append(
            {
                "rank": place if record.feasible else None,
                "trial": record.arm,
                "imbalance": metrics.imbalance,
                "replicated": replicated[record.arm].__dict__ if record.arm in replicated else None,
                "fvu_worst": metrics.fvu_worst,
                "fvu_mean": metrics.fvu_mean,
                "utilization": metrics.utilization,
                "strategy": record.params.get("compression.strategy", shared.strategy),
                "capacity": record.params.get("compression.capacity", shared.capacity),
                "feasible": record.feasible,
                "broken": {name: value for name, value in record.guards.items() if value > 0},
                "helped": 10**gain.worst_helped if gain else None,
                "hurt": 10**gain.best_hurt if gain else None,
                "front": any(record is each for each in study.front),
            }
        )
    names = ("imbalance", "fvu_worst", "fvu_mean", "utilization")
    return {
        "study": study.name,
        "state": study.state,
        "baseline": {name: getattr(baseline, name) for name in names} if baseline else None,
        "trials": trials,
        "running": study.running,
        "standings": study.standings,
        "problems": study.problems,
    }


if __name__ == "__main__":
    run_command(main)
