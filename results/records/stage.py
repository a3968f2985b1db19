"""Where a study and its trials stand, in the words of every command, the report and the pages beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from results.records.settings import STRATEGY
from results.records.study_folder import StudyFolder
from results.records.trial_record import State, TrialRecord

if TYPE_CHECKING:
    import optuna

Phase = Literal["start-up", "simulation", "preparation", "baseline", "search", "finals", "verification"]
"""What a study does, in this order. The first three leave no trace in its folder."""
Activity = Literal["running", "interrupted", "finished"]
"""Whether anything is done about a study; `interrupted` before its verdict."""

OUTCOMES: dict[State, str] = {
    "complete": "completed",
    "pruned": "stopped early",
    "diverged": "diverged",
    "refused": "refused",
    "failed": "failed",
}
"""How a trial ended."""
RANDOM = "random"
"""The search of a tournament that draws from the whole space."""


def outcome_in_words(record: TrialRecord) -> str:
    """How a trial ended; of a completed one whether it is feasible, and if not what it breaks."""
    if record.state != "complete":
        return OUTCOMES[record.state]
    if record.feasible:
        return "feasible"
    return f"breaks {record.broken_guards}" if record.broken_guards else record.kind


def count_in_words(states: Iterable[State]) -> str:
    """How many trials ended in which way, e.g. `3 completed, 1 stopped early`; `none yet` if none did."""
    found = list(states)
    return ", ".join(f"{found.count(state)} {word}" for state, word in OUTCOMES.items() if state in found) or "none yet"


def study_in_words(activity: str, phase: Phase) -> str:
    """Where a study stands, e.g. `running, search`; of a finished one only that."""
    return activity if activity == "finished" else f"{activity}, {phase}"


def activity_of(folder: StudyFolder) -> Activity:
    """Whether a study runs at this moment, was interrupted, or has its verdict."""
    if folder.is_running:
        return "running"
    return "finished" if folder.verdict.exists() else "interrupted"


def phase_of(folder: StudyFolder, searches: Mapping[str, optuna.Study | None] | None = None) -> Phase:
    """The phase that a study is in, or ended in, by what it has left so far; its searches if they are open already."""
    if not folder.records("baseline").exists():
        return "baseline"
    if folder.verdict.exists():
        return "verification"
    if not all(search_ends(opened_searches(folder) if searches is None else searches).values()):
        return "search"
    exported, finals = folder.best / "config.yaml", folder.records("final")
    if exported.exists() and finals.exists() and exported.stat().st_mtime >= finals.stat().st_mtime:
        return "verification"
    return "finals"


def opened_searches(folder: StudyFolder) -> dict[str, optuna.Study | None]:
    """The searches of a study by arm, opened for reading; None of one that has not begun."""
    from results.records.optuna_trials import open_search  # a second to import: not for --help

    known = folder.read_description()
    arms = tournament_arms(known["space"]) if known["config"].get("tournament") else [""]
    begun = folder.searches
    return {arm: open_search(begun[arm]) if arm in begun else None for arm in arms}


def search_ends(searches: Mapping[str, optuna.Study | None]) -> dict[str, str | None]:
    """Why each search of a study ended, by arm; None of one that has not."""
    from results.records.optuna_trials import ENDED

    return {arm: None if search is None else search.user_attrs.get(ENDED) for arm, search in searches.items()}


def tournament_arms(space: dict[str, Any]) -> list[str]:
    """The names of the searches of a tournament, from the space in its study.yaml."""
    return [*map(str, space["parameters"][STRATEGY]["choices"]), RANDOM]
