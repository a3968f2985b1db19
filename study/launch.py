"""python -m study.launch: run a whole study with one command."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinlock_dist.command import typed
from spinlock_dist.errors import run_command
from study.config import StudyConfig, is_dotted
from study.launch_options import make_parser, study_config
from study.notification import notify

if TYPE_CHECKING:
    from rich.console import Console

    from study.pipeline import StudyResult


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print. Returns 130 when interrupted."""
    args = make_parser().parse_args(argv)
    config = study_config(args)
    from spinlock_dist.shown import terminal_console
    from study.pipeline import dry_run, run
    from study.samplers.build import load_sampler

    # A person names it here; that a file does would not be enough to import code.
    sampler = load_sampler(args.sampler) if args.sampler and is_dotted(args.sampler) else None
    console = terminal_console(quiet=args.json)
    progress = terminal_console(quiet=args.json or args.quiet)
    progress.print(f"study {Path(config.runs) / config.name}", highlight=False)
    state, verdict = "failed", ""
    try:
        if args.dry_run:
            plan = dry_run(config, console=progress, sampler=sampler)
            print(json.dumps(plan.to_json()) if args.json else "\n".join(plan.lines()))
            return 0
        result = run(config, resume=args.resume or bool(args.extend), console=progress, sampler=sampler)
        state, verdict = "finished", result.verdict.choice.verdict if result.verdict.choice else ""
        print(json.dumps(_as_json(result))) if args.json else _show(result, console)
    except KeyboardInterrupt:
        state = "interrupted"
        console.print(_farewell(config), highlight=False, soft_wrap=True)
        return 130
    finally:
        if args.notify:
            notify(args.notify, Path(config.runs) / config.name, state, verdict)
    return 0


def _farewell(config: StudyConfig) -> str:
    """How to resume an interrupted study."""
    if not (Path(config.runs) / config.name / "study.yaml").exists():
        return "stopped before there was anything to keep"
    runs = "" if config.runs == StudyConfig.model_fields["runs"].default else f" --runs {config.runs}"
    return f"stopped; resume with: {typed('study.launch')} --resume --name {config.name}{runs}"


def _show(result: StudyResult, console: Console) -> None:
    from results.analysis.next_step import next_step
    from results.analysis.trial_summary import outcomes_in_words
    from results.records.study_record import read_study
    from results.report.terminal import causes_in_words, leaderboard, tournament_table

    study = read_study(result.folder)
    if result.standings:
        console.print(tournament_table(result.standings))
    else:
        replicated = {finding.arm: finding.effects for finding in result.verdict.findings}
        board = leaderboard(
            result.baseline[0], result.search, study.settings, front=result.front, replicated=replicated
        )
        console.print(board)
    console.print(outcomes_in_words(result.search), highlight=False)
    console.print(result.conclusion, highlight=False)
    if advice := next_step(study):
        console.print(advice, highlight=False, soft_wrap=True)
    console.print(causes_in_words(study), highlight=False)
    if result.best is not None:
        again = f"{typed('spinlock_dist.train')} --config {result.folder.best}/config.yaml"
        console.print(f"train it again: {again}", highlight=False, soft_wrap=True)
    if result.folder.report.exists():
        console.print(f"read it: {result.folder.report}", highlight=False, soft_wrap=True)
    console.print(f"everything is in {result.folder.path}", highlight=False, soft_wrap=True)


def _as_json(result: StudyResult) -> dict[str, Any]:
    from results.analysis.trial_summary import count_outcomes

    return {
        "study": str(result.folder.path),
        "ended": result.ended,
        "conclusion": result.conclusion,
        "verdict": result.verdict.to_json(),
        "standings": [asdict(row) for row in result.standings],
        "best": result.best.to_json() if result.best else None,
        "baseline": [record.to_json() for record in result.baseline],
        "finals": [record.to_json() for record in result.finals],
        "front": [record.arm for record in result.front],
        "outcomes": count_outcomes(result.search),
        "states": {record.arm: record.state for record in result.search},
    }


if __name__ == "__main__":
    run_command(main)
