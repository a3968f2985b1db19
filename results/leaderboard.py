"""python -m results.leaderboard NAME: the trials of a study, best first."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from results.analysis.levelling import levelling
from results.analysis.pareto import study_front
from results.command import explains_damage, read_named, study_parser
from results.records.settings import CAPACITY, STRATEGY
from results.records.trial_record import ranking
from spinlock_dist.errors import run_command

if TYPE_CHECKING:
    from results.records.study_record import StudyRecord

EXAMPLES = """examples:
  python -m results.leaderboard mine               the ten best trials, also while the study runs
  python -m results.leaderboard mine --rows 50
  python -m results.leaderboard mine --json        every trial that completed, for scripts
"""

SHOWN = 10
"""Trials in the table by default."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = study_parser("results.leaderboard", "Show the trials of a study, best first.", EXAMPLES)
    parser.add_argument("name", help="study")
    parser.add_argument("--rows", type=int, metavar="N", help=f"trials shown (default {SHOWN}, all with --json)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@explains_damage
def main(argv: list[str] | None = None) -> int:
    """Parse, read, print. Reads only; a study may be running meanwhile."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.rows is not None and args.rows < 1:
        parser.error("--rows: at least 1")
    study = read_named(args.runs, args.name)
    if args.json:
        print(json.dumps(as_json(study, args.rows)))
    else:
        _show(study, args.rows or SHOWN)
    return 0


def _show(study: StudyRecord, rows: int) -> None:
    from results.analysis.next_step import next_step
    from results.analysis.trial_summary import outcomes_in_words
    from results.records.standing import standing_of
    from results.report.terminal import leaderboard, tournament_table
    from spinlock_dist.shown import terminal_console

    console = terminal_console()
    running = f"; {len(study.running)} trials running or waiting" if study.running else ""
    console.print(f"{study.name}: {study.stands}{running}", highlight=False)
    if study.standings:
        console.print(tournament_table([standing_of(row) for row in study.standings]))
    baseline = study.baseline
    if baseline is None or baseline.metrics is None:
        console.print("its baseline is not trained yet; trials are ranked against it", highlight=False)
        return
    # In a tournament the standings above show the intervals, by strategy.
    replicated = None if study.standings else study.effects
    console.print(leaderboard(baseline, study.search, study.settings, rows, study_front(study), replicated))
    console.print(outcomes_in_words(study.search), highlight=False)
    if study.verdict and (conclusion := study.verdict.get("conclusion")):
        console.print(conclusion, highlight=False)
    if study.state == "finished" and (advice := next_step(study)):
        console.print(advice, highlight=False, soft_wrap=True)


def as_json(study: StudyRecord, rows: int | None) -> dict[str, Any]:
    """The ranking as plain data; `replicated` are ratios to the baseline's on the test rows, by figure."""
    baseline = study.baseline.metrics if study.baseline else None
    front, trials = study_front(study), []
    words = {each["arm"]: each["verdict"] for each in (study.verdict or {}).get("findings", [])}
    for place, record in enumerate(ranking(study.search)[:rows], start=1):
        metrics = record.metrics
        assert metrics is not None
        gain = levelling(metrics, baseline) if baseline else None
        trials.append(
            {
                "rank": place if record.feasible else None,
                "trial": record.arm,
                "imbalance": metrics.estimate("imbalance"),
                "replicated": {name: asdict(each) for name, each in study.effects.get(record.arm, {}).items()} or None,
                "verdict": words.get(record.arm),
                "fvu_worst": metrics.estimate("fvu_worst"),
                "fvu_mean": metrics.estimate("fvu_mean"),
                "utilization": metrics.utilization,
                "bits_per_sample": metrics.bits_per_sample,
                "bits_carried_per_sample": metrics.bits_carried_per_sample,
                "strategy": study.settings.value(record, STRATEGY),
                "capacity": study.settings.value(record, CAPACITY),
                "feasible": record.feasible,
                "broken": {name: value for name, value in record.guards.items() if value > 0},
                "helped": 10**gain.worst_helped if gain else None,
                "hurt": 10**gain.best_hurt if gain else None,
                "front": any(record is each for each in front),
            }
        )
    names = ("imbalance", "fvu_worst", "fvu_mean", "utilization", "bits_per_sample", "bits_carried_per_sample")
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
