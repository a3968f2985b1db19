"""The verification: the exported config, read back from its file, gives what the study found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, read_records, write_records
from results.verdict.sentences import spoken
from results.verdict.verification import Verification, verify
from spinlock_dist.config_file import load_config
from study.context import StudyContext


def verify_export(context: StudyContext, best: TrialRecord, exported: Path) -> Verification:
    """Train the exported config as the search did, the first time with the trial's seed.

    What was trained of a config that a longer search has overtaken is kept: tables and trackers tell of it.
    """
    path = context.folder.records("verification")
    records = verification_records(context.folder)
    if not any(record.arm == best.arm for record in records):
        context.events.on_message(f"verification: {spoken(best.arm)} from {exported.parent.name}/{exported.name}")
        seeds = context.config.finals.seeds
        trainings = context.trainings("verification", {best.arm: (load_config(exported), seeds)})
        records += [replace(record, params=best.params) for record in context.trained(trainings)]
        write_records(path, records)
    return verify(best, records)


def verification_records(folder: StudyFolder) -> list[TrialRecord]:
    """What verification has trained; nothing if it has not been held."""
    path = folder.records("verification")
    return read_records(path) if path.exists() else []
