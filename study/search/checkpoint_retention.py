"""Which checkpoints stay: those of the best trials so far, and of a whole front."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from results.analysis.pareto import front
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, feasible_records


class CheckpointRetention:
    """The trials whose checkpoints are kept; every other one's is deleted as soon as the trial has an outcome.

    A trial that is not among the best `count` can only fall further behind, so what is deleted is never wanted again.
    """

    def __init__(self, folder: StudyFolder, count: int, whole_front: bool = False):
        self._folder = folder
        self._count = count
        self._whole_front = whole_front
        self._records: list[TrialRecord] = []

    def add(self, records: Sequence[TrialRecord]) -> None:
        """Take trials that have an outcome, and delete every checkpoint that is no longer among the best."""
        known = list({record.number: record for record in (*self._records, *records)}.values())
        best = feasible_records(known)[: self._count]
        if self._whole_front:
            best += [record for record in front(known) if record not in best]
        self._records = best
        for number in {record.number for record in known} - {record.number for record in best}:
            shutil.rmtree(self._folder.checkpoint(number), ignore_errors=True)
