"""python -m study.status NAME: where a study stands."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.command import explains_damage
from spinlock_dist.atomic_files import read_json
from spinlock_dist.command import command_parser
from spinlock_dist.errors import ConfigError, run_command

if TYPE_CHECKING:
    from results.records.study_folder import StudyFolder

MOST_RUNNING = 8
"""Trials that run with a line each."""

EXAMPLES = """examples:
  python -m study.status                 every study in runs/
  python -m study.status operators       one of them, with its leaderboard
  python -m study.status operators --why 7    what became of its trial 7
  python -m study.status operators --json
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser("study.status", "Show where a study stands.", EXAMPLES)
    parser.add_argument("name", nargs="?", help="study; all of them when left out")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    parser.add_argument("--why", type=int, metavar="TRIAL", help="show the story of one trial of the search")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@explains_damage
def main(argv: list[str] | None = None) -> int:
    """Parse, read, print. Reads only; a study may be running meanwhile."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.why is not None and args.name is None:
        parser.error("--why: name the study too")
    from results.records.study_folder import open_study, study_names

    if args.name is None:
        names = study_names(args.runs)
        print(json.dumps(names) if args.json else "\n".join(names) or f"no study in {args.runs}")
        return 0
    if args.why is not None:
        story, record = read_story(open_study(args.runs, args.name), args.why)
        print(json.dumps(record) if args.json else story)
        return 0
    status = read_status(open_study(args.runs, args.name))
    print(json.dumps(status) if args.json else _text(status))
    return 0


def read_story(folder: StudyFolder, number: int) -> tuple[str, dict[str, Any]]:
    """The story of a trial of the search, as text and as plain data. Raises `ConfigError` if there is none."""
    from results.analysis.trial_summary import attempt_lines, in_columns, setting_lines, tell_story
    from results.records.optuna_trials import attempts_at, has_outcome, open_search, record_of
    from results.records.trial_record import read_records

    if folder.read_description()["config"].get("tournament"):
        raise ConfigError(f"--why: each strategy of a tournament has a trial {number}; see {folder.trials}")
    trials = open_search(folder).get_trials(deepcopy=False) if folder.has_search else []
    if not 0 <= number < len(trials):
        known = f"0 to {len(trials) - 1}" if trials else "none yet"
        raise ConfigError(f"study '{folder.name}' has no trial {number}; its trials: {known}")
    trial = trials[number]
    head = f"trial {number} of {folder.name}\n"
    if has_outcome(trial):
        record = record_of(trial)
        baseline = read_records(folder.records("baseline"))[0].metrics
        return head + tell_story(record, baseline), record.to_json()
    attempts = attempts_at(trial)
    state = "waits to be tried" if not attempts else "runs" if not attempts[-1].ended else "waits to be tried again"
    lines = [("state", state), *attempt_lines(attempts), *setting_lines(trial.params)]
    plain = {"number": number, "state": state, "params": trial.params, "attempts": [vars(each) for each in attempts]}
    return head + in_columns(lines), plain


def read_status(folder: StudyFolder) -> dict[str, Any]:
    """Where a study stands: its phase, trials by state, and the best so far beside the baseline."""
    from results.analysis.pareto import front
    from results.analysis.trial_summary import count_outcomes
    from results.records.optuna_trials import read_search
    from results.records.stage import activity_of, opened_searches, phase_of, search_ends
    from results.records.trial_record import best_record, full_arm, read_records

    known = folder.read_description()
    searches = opened_searches(folder)
    ends, arms = search_ends(searches), list(searches)
    studies = {arm: search for arm, search in searches.items() if search is not None}
    search = [
        replace(record, arm=full_arm(arm, record.arm))
        for arm, study in studies.items()
        for record in read_search(study, details=False)
    ]
    running = [
        {"trial": full_arm(arm, f"trial-{trial.number}"), **last_report(trial.intermediate_values)}
        for arm, study in studies.items()
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name == "RUNNING"
    ]
    ended = ends[arms[-1]] if all(ends.values()) else None
    target = known["config"]["trials"] * len(arms)
    baseline = read_records(folder.records("baseline"))[0] if folder.records("baseline").exists() else None
    best = best_record(search)
    pareto = known["config"].get("objective") == "pareto"
    return {
        "study": folder.name,
        "state": activity_of(folder),
        "phase": phase_of(folder, searches),
        "trials": target,
        "ended": ended,
        "states": dict(Counter(record.state for record in search)),
        "running": running,
        "collapsed": count_outcomes(search)["collapsed"],
        "verdict": verdict_words(folder),
        "baseline": baseline.metrics.estimate("imbalance") if baseline and baseline.metrics else None,
        "front": [record.number for record in front(search)] if pareto else None,
        "best": {"trial": best.number, "arm": best.arm, "imbalance": best.metrics.estimate("imbalance")}
        if best and best.metrics
        else None,
    }


def verdict_words(folder: StudyFolder) -> dict[str, str]:
    """What was found about each finalist, in a word, by its arm; the exported one first."""
    if not folder.verdict.exists():
        return {}
    told = read_json(folder.verdict)
    found = {each["arm"]: each["verdict"] for each in told.get("findings", [])}
    exported = told.get("exported")
    return {exported: found[exported], **found} if exported in found else found


def last_report(reports: dict[int, float]) -> dict[str, Any]:
    """Epoch and worst FVU of the last report of a trial; with several objectives the storage keeps none."""
    epoch = max(reports, default=None)
    return {"epoch": epoch, "fvu_worst": None if epoch is None else reports[epoch]}


def _running(trials: list[dict[str, Any]]) -> list[str]:
    """Lines about the trials without an outcome: those with the most epochs, and how many others."""
    furthest = sorted(trials, key=lambda trial: -(trial["epoch"] or 0))[:MOST_RUNNING]
    lines = [
        f"          {trial['trial'].replace('-', ' ')}"
        + (f"  epoch {trial['epoch']}  worst {trial['fvu_worst']:.3f}" if trial["epoch"] else "")
        for trial in furthest
    ]
    lines += [f"          and {len(trials) - len(lines)} more"] if len(trials) > len(lines) else []
    return [f"running   {len(trials)}; if no driver is, --resume takes them up", *lines] if trials else []


def _text(status: dict[str, Any]) -> str:
    from results.records.stage import count_in_words, study_in_words

    states = count_in_words(Counter(status["states"]).elements())
    states += f" ({status['collapsed']} collapsed)" if status["collapsed"] else ""
    best = status["best"]
    lines = [
        f"{status['study']}: {study_in_words(status['state'], status['phase'])}",
        f"trials    {states}, of {status['trials']}",
    ]
    lines += _running(status["running"])
    lines += [f"search    ended: {status['ended']}"] if status["ended"] else []
    lines += [f"baseline  imbalance {status['baseline']:.2f}x"] if status["baseline"] else []
    lines += [f"best      imbalance {best['imbalance']:.2f}x, {best['arm'].replace('-', ' ')}"] if best else []
    lines += [
        f"{'verdict' if place == 0 else '':<10}{arm.replace('-', ' ')}: {word}"
        for place, (arm, word) in enumerate(status["verdict"].items())
    ]
    lines += [f"front     trials {', '.join(map(str, status['front']))}"] if status["front"] else []
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
