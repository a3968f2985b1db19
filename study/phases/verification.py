"""The verification: the exported config, read back from its file, gives what the study found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from results.records.trial_record import BASELINE, TrialRecord, read_records, write_records
from results.verdict.verification import Verification, verify
from spinlock_dist.config_file import load_config
from study.context import StudyContext


def verify_export(
    context: StudyContext, best: TrialRecord, baseline: Sequence[TrialRecord], exported: Path
) -> Verification:
    """Train the exported config on the study's own split, the first time with the trial's seed, and the baseline."""
    path = context.folder.records("verification")
    records = read_records(path) if path.exists() else []
    if not any(record.arm == best.arm for record in records):
        context.events.on_message(f"verification: trial {best.number} from {exported.parent.name}/{exported.name}")
        arms = {best.arm: (load_config(exported), context.config.finals.seeds), BASELINE: (context.uniform, 1)}
        records = list(context.workers.run(context.trainings("verification", arms)))
        write_records(path, records)
    return verify(best, baseline, records)
