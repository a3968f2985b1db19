"""Which checkpoints stay: those of the best trials so far, and of a whole Pareto front. Snapshots go with a batch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from results.analysis.pareto import front
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, feasible_records
from spinlock_dist.training.snapshot import discard
from study.events import StudyEvents


class CheckpointRetention(StudyEvents):
    """Deletes the checkpoint of every finished trial that is not among the best `count`, as soon as that shows.

    A trial that is not among them can only fall further behind, so what is deleted is never wanted again.
    """

    def __init__(self, folder: StudyFolder, count: int, whole_front: bool = False):
        self._folder = folder
        self._count = count
        self._whole_front = whole_front
        self._records: list[TrialRecord] = []

    def on_trial_end(self, record: TrialRecord) -> None:
        """Keep the trial's checkpoint if it is among the best."""
        self.add([record])

    def on_batch_end(self, name: str) -> None:
        """Delete the snapshots of a trial batch of which nothing will be resumed."""
        discard(self._folder.snapshots / name)

    def add(self, records: Sequence[TrialRecord]) -> None:
        """Handle finished trials: delete every checkpoint that is no longer among the best."""
        known = list({record.number: record for record in (*self._records, *records)}.values())
        best = feasible_records(known)[: self._count]
        if self._whole_front:
            best += [record for record in front(known) if record not in best]
        self._records = best
        for number in {record.number for record in known} - {record.number for record in best}:
            shutil.rmtree(self._folder.checkpoint(number), ignore_errors=True)
