"""The export: the best finalist as files that train it again, for this project and for Spinlock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ray

from results.export.best_folder import export_config, export_readme, withdraw_export
from results.export.spinlock import export_spinlock
from results.records.settings import STRATEGY
from results.records.trial_record import Phase, TrialRecord
from results.verdict.finding import Verdict
from results.verdict.sentences import spoken
from spinlock_dist.atomic_files import digest, write_json
from spinlock_dist.errors import SpinlockError
from study.context import StudyContext
from study.phases.finals import Finalist
from study.phases.verification import verify_export
from study.worker.trainable import Training


def export_best(
    context: StudyContext,
    verdict: Verdict,
    finalists: Sequence[Finalist],
    baseline: Sequence[TrialRecord],
    conclusion: str,
) -> tuple[TrialRecord | None, str]:
    """Export and verify the best of the finalists with the best word; keep the verdict.

    Returns its record, None if there is no finalist or it diverges, and the conclusion with what verification found.
    """
    finding = verdict.choice
    if finding is None:
        return _nothing_exported(context, verdict, conclusion)
    chosen = next(each for each in finalists if each.arm == finding.arm)
    best, checkpoint = _trained(context, chosen)
    if best.metrics is None:
        return _nothing_exported(
            context, verdict, f"{conclusion} Nothing is exported: {spoken(best.arm)} {best.reason}."
        )
    exported = export_config(context.folder.best, chosen.config, checkpoint)
    _export_spinlock(context, best, chosen)
    verification = verify_export(context, best, exported)
    conclusion = f"{conclusion} {verification}"
    found = {"exported": best.arm, "verification": verification.to_json(), "conclusion": conclusion}
    write_json(context.folder.verdict, verdict.to_json() | found)
    export_readme(context.folder, best, baseline[0], finding, conclusion)
    return best, conclusion


def _nothing_exported(context: StudyContext, verdict: Verdict, conclusion: str) -> tuple[None, str]:
    """Withdraw what an earlier end of the study exported, and keep the verdict."""
    withdraw_export(context.folder)
    write_json(context.folder.verdict, verdict.to_json() | {"conclusion": conclusion})
    return None, conclusion


def _trained(context: StudyContext, chosen: Finalist) -> tuple[TrialRecord, Path]:
    """The finalist's record and its checkpoint, trained again if that is not what was written or was not kept.

    A finalist that is no trial of the search is trained here as one would be.
    """
    known = chosen.record
    path = context.checkpoint(known) if known is not None else context.folder.tune / "checkpoints" / chosen.arm
    if known is not None and path.exists() and digest(path) == known.checkpoint:
        return known, path
    if known is not None and path.exists():
        context.events.on_message(f"{path} is damaged: {spoken(chosen.arm)} is trained again")
    phase: Phase
    phase, number = ("search", known.number) if known is not None else ("verification", 0)
    training = Training(
        phase=phase, arm=chosen.arm, number=number, config=chosen.config, data=ray.put(context.data), checkpoint=path
    )
    [trained] = context.trained([training])
    if known is not None and trained.metrics is not None:
        return known, path
    return replace(trained, params={STRATEGY: chosen.config.compression.strategy}), path


def _export_spinlock(context: StudyContext, best: TrialRecord, chosen: Finalist) -> None:
    """Write the best config as Spinlock reads it. A study is whole without that."""
    try:
        export_spinlock(context.folder, best, chosen.config, context.folder.best / "spinlock.yaml")
    except SpinlockError as error:
        context.events.on_message(f"not exported for Spinlock: {error}")
