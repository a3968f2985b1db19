"""python -m study.status NAME: where a study stands."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinlock_dist.errors import run_command

if TYPE_CHECKING:
    from results.study_folder import StudyFolder

EXAMPLES = """examples:
  python -m study.status                 every study in runs/
  python -m study.status operators       one of them, with its leaderboard
  python -m study.status operators --json
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, read, print. Reads only; a study may be running meanwhile."""
    parser = argparse.ArgumentParser(
        prog="python -m study.status",
        description="Show where a study stands.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="study; all of them when left out")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where studies are kept")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    from results.study_folder import open_study, study_names

    if args.name is None:
        names = study_names(args.runs)
        print(json.dumps(names) if args.json else "\n".join(names) or f"no study in {args.runs}")
        return 0
    status = read_status(open_study(args.runs, args.name))
    print(json.dumps(status) if args.json else _text(status))
    return 0


def read_status(folder: StudyFolder) -> dict[str, Any]:
    """Return where a study stands: its phase, trials by state, and the best so far beside the baseline."""
    from results.front import front
    from results.trial_record import best_record, read_records
    from study.journal import read_journal, read_search

    search = read_search(read_journal(folder.journal, folder.name)) if folder.journal.exists() else []
    target = folder.read_description()["config"]["trials"]
    baseline = read_records(folder.records("baseline"))[0] if folder.records("baseline").exists() else None
    best = best_record(search)
    pareto = folder.read_description()["config"].get("objective") == "pareto"
    done = "done" if folder.verdict.exists() else "finals"
    return {
        "study": folder.name,
        "phase": "baseline" if baseline is None else "search" if len(search) < target else done,
        "trials": target,
        "states": dict(Counter(record.state for record in search)),
        "baseline": baseline.metrics.imbalance if baseline and baseline.metrics else None,
        "front": [record.number for record in front(search)] if pareto else None,
        "best": {"trial": best.number, "imbalance": best.metrics.imbalance} if best and best.metrics else None,
    }


def _text(status: dict[str, Any]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in status["states"].items()) or "none yet"
    best = status["best"]
    lines = [f"{status['study']}: {status['phase']}", f"trials    {states}, of {status['trials']}"]
    lines += [f"baseline  imbalance {status['baseline']:.2f}x"] if status["baseline"] else []
    lines += [f"best      imbalance {best['imbalance']:.2f}x, trial {best['trial']}"] if best else []
    lines += [f"front     trials {', '.join(map(str, status['front']))}"] if status["front"] else []
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
