"""The export: the best finalist as files that train it again, for this project and for Spinlock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ray

from results.export.best_folder import export_config, export_readme, withdraw_export
from results.export.spinlock import export_spinlock
from results.records.trial_record import TrialRecord
from results.verdict.verdict import Finding, Verdict
from spinlock_dist.atomic_files import digest, write_json
from spinlock_dist.errors import SpinlockError
from study.context import StudyContext
from study.phases.verification import verify_export
from study.worker.trainable import Training


def export_best(
    context: StudyContext,
    verdict: Verdict,
    baseline: Sequence[TrialRecord],
    search: Sequence[TrialRecord],
    conclusion: str,
) -> tuple[TrialRecord | None, str]:
    """Export and verify the finalist with the best verdict; keep the verdict.

    Returns that trial, None if there is no finalist to export, and the conclusion with what verification found.
    """
    chosen = _choose(context, verdict, search)
    if chosen is None:
        withdraw_export(context.folder)
        write_json(context.folder.verdict, verdict.to_json() | {"conclusion": conclusion})
        return None, conclusion
    best, finding = chosen
    _mend_checkpoint(context, best)
    exported = export_config(context.folder.best, context.trial(best), context.checkpoint(best))
    _export_spinlock(context, best)
    verification = verify_export(context, best, baseline, exported)
    conclusion = f"{conclusion} {verification}"
    found = {"exported": best.arm, "verification": verification.to_json(), "conclusion": conclusion}
    write_json(context.folder.verdict, verdict.to_json() | found)
    export_readme(context.folder, best, baseline[0], finding, conclusion)
    return best, conclusion


def _choose(
    context: StudyContext, verdict: Verdict, search: Sequence[TrialRecord]
) -> tuple[TrialRecord, Finding] | None:
    """The first finalist that has a checkpoint: one that an extended search has overtaken may have lost it."""
    trials = {record.arm: record for record in search}
    for finding in verdict.in_order:
        record = trials.get(finding.arm)
        if record is not None and context.checkpoint(record).exists():
            return record, finding
    return None


def _mend_checkpoint(context: StudyContext, best: TrialRecord) -> None:
    """Train the best trial again if its checkpoint is not what was written."""
    path: Path = context.checkpoint(best)
    if digest(path) == best.checkpoint:
        return
    context.events.on_message(f"{path} is damaged: trial {best.number} is trained again")
    config, data = context.trial(best), ray.put(context.data)
    again = Training(phase="search", arm=best.arm, number=best.number, config=config, data=data, checkpoint=path)
    list(context.workers.run([again]))


def _export_spinlock(context: StudyContext, best: TrialRecord) -> None:
    """Write the best config as Spinlock reads it. A study is whole without that."""
    try:
        export_spinlock(context.folder, best, context.trial(best), context.folder.best / "spinlock.yaml")
    except SpinlockError as error:
        context.events.on_message(f"not exported for Spinlock: {error}")
