"""The baseline: uniform ratios, trained on the study's own split with several seeds."""

from __future__ import annotations

from dataclasses import replace

from results.records.trial_record import BASELINE, TrialRecord, read_records, write_records
from study.context import StudyContext
from study.events import PhaseStart
from study.worker.retry_policy import StudyError


def run_baseline(context: StudyContext) -> list[TrialRecord]:
    """Train the uniform baseline, or read its records if that is done. The first has the trials' seed, and is kept.

    Raises `StudyError` if a training diverges: nothing could be compared with it.
    """
    path = context.folder.records("baseline")
    if path.exists():
        records = read_records(path)
        for record in records:
            context.events.on_training_end(record)
        return records
    seeds = context.config.baseline_seeds
    context.events.on_message(f"baseline: uniform ratios, {seeds} seeds")
    trainings = (
        replace(each, checkpoint=context.folder.baseline_checkpoint) if each.number == 0 else each
        for each in context.trainings("baseline", {BASELINE: (context.uniform, seeds)})
    )
    records = []
    with context.events.phase(PhaseStart(phase="baseline", total=seeds)):
        for record in context.trained(trainings):
            if record.metrics is None:
                raise StudyError(f"the uniform baseline {record.reason}")
            records.append(record)
    records.sort(key=lambda record: record.number)
    write_records(path, records)
    return records
