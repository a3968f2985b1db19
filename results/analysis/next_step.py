"""What to try next where no trial of a study was feasible, as a sentence and a command."""

from __future__ import annotations

import shlex
from collections import Counter

from results.analysis.trial_summary import COLLAPSED
from results.records.settings import STRATEGY
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from spinlock_dist.command import typed
from spinlock_dist.errors import SpinlockError

MEANT = {
    "fvu_worst": "the worst category is worse than the baseline's",
    "fvu_worst_limit": "the worst category is hardly explained at all",
    "fvu_mean": "the mean error is above the baseline's",
    "utilization": "codes lie idle",
    "perplexity": "few codes do most of the work",
    "bits": "the bits are not those of the baseline",
    COLLAPSED: "codebooks collapsed",
}
"""What a broken guard, or a collapse, says of trials."""
MEASURED = ("feedback", "waterfill")
"""The strategies that go furthest: docs/strategies.md."""
LONGER = 2
"""How many times the epochs, where more of them may do."""


def next_step(study: StudyRecord) -> str:
    """What to try next; empty where a trial is feasible, or none has ended."""
    if not study.search or any(record.feasible for record in study.search):
        return ""
    completed = [record for record in study.search if record.state == "complete"]
    if not completed:
        return f"No trial completed. What became of one: {typed('study.status')} {_named(study)} --why 0"
    what = f"No trial was feasible{_commonest(completed)}."
    advice, options = _way_out(study)
    return f"{what} {advice}: {_again(study, options)}"


def _commonest(completed: list[TrialRecord]) -> str:
    """What is wrong with most trials, and with how many."""
    wrong = [name for record in completed for name in (*record.broken_guards.split(", "), record.kind) if name in MEANT]
    if not wrong:
        return ""
    [(name, count)] = Counter(wrong).most_common(1)
    said = MEANT[name] + ("" if name == COLLAPSED else f" ({name})")
    return f": of {count} of {len(completed)} that completed, {said}"


def _way_out(study: StudyRecord) -> tuple[str, str]:
    """Advice and the options that follow it: strategies that work where they were not tried, else longer training."""
    strategies = {study.settings.value(record, STRATEGY) for record in study.search}
    if not strategies & set(MEASURED):
        return f"None tried {' or '.join(MEASURED)}, which go furthest", "--space adaptive_compression"
    try:
        epochs = study.base().training.epochs
    except SpinlockError:
        return "More trials may find one", "--trials 64"
    return f"Trained for {epochs} epochs, {LONGER * epochs} may do", f"--epochs {LONGER * epochs}"


def _again(study: StudyRecord, options: str) -> str:
    """The command that runs the study again under another name."""
    runs = study.folder.path.parent
    config = shlex.quote(str(study.folder.description))
    elsewhere = f" --runs {shlex.quote(str(runs))}" if runs.name != "runs" else ""
    return f"{typed('study.launch')} --config {config} --name {study.name}-again{elsewhere} {options}"


def _named(study: StudyRecord) -> str:
    return f"{study.name} --runs {shlex.quote(str(study.folder.path.parent))}"
