"""Finals: the finalists and the baseline, on test rows that took no part in the search.

A replicate is a training seed and a fold: its models are trained on the other folds. The arms share both, so that each
replicate gives one pair. Test rows are those of the study's split: they steered nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import ray

from results.records.trial_record import BASELINE, TrialRecord, feasible_records, read_records, write_records
from results.verdict.verdict import Verdict, judge, spoken
from spinlock_dist.config import TrialConfig
from study.config import StudyConfig
from study.context import StudyContext
from study.phases.search import Searched
from study.search.constraints import Baseline, guards
from study.worker.trainable import Training

REPLICATES = "replicates"
"""What verdicts call a pair of trainings, in the plural."""


def run_finals(context: StudyContext, searched: Searched) -> list[TrialRecord]:
    """Train the finalists, in a tournament the best of each arm, and the baseline on the replicates."""
    top = 1 if context.config.tournament else context.config.finals.top
    finalists = [record for records in searched.by_arm.values() for record in feasible_records(records)[:top]]
    if not finalists:
        return []
    arms = {BASELINE: context.uniform, **{record.arm: context.trial(record) for record in finalists}}
    return Finals(context, arms).run()


def judge_finals(config: StudyConfig, finals: Sequence[TrialRecord]) -> Verdict:
    """The verdict on each finalist. Replicates share test rows, and training rows in part."""
    split = config.base.prepare.split
    return judge(finals, REPLICATES, split.test / (1 - split.test - split.validation_share))


@dataclass(frozen=True)
class Finals:
    """Runs what is missing of the finals; the record of every training is kept as soon as it ends."""

    context: StudyContext
    arms: Mapping[str, TrialConfig]
    """The baseline and the finalists, in the order of the records."""

    def run(self) -> list[TrialRecord]:
        """The records by arm and replicate, with their guards.

        Finalists of an earlier run, which a search that went on has overtaken, are among them: they count as tried.
        """
        config, folder = self.context.config, self.context.folder
        path = folder.records("final")
        records = read_records(path) if path.exists() else []
        known = {(record.arm, record.number) for record in records}
        wanted = [(arm, number) for number in range(config.finals.replicates) for arm in self.arms]
        missing = [pair for pair in wanted if pair not in known]
        if missing:
            folder.verdict.unlink(missing_ok=True)
            finalists = ", ".join(spoken(arm) for arm in self.arms if arm != BASELINE)
            self.context.events.on_message(
                f"finals: {finalists} and the baseline, {config.finals.replicates} replicates on the test rows"
            )
        for record in self.context.workers.run(self._trainings(missing)):
            records = self._guarded([*records, record])
            write_records(path, records)
            self._show(records, record.number)
        place = {arm: place for place, arm in enumerate(self.arms)}
        return sorted(records, key=lambda record: (place.get(record.arm, len(place)), record.arm, record.number))

    def _trainings(self, missing: list[tuple[str, int]]) -> Iterator[Training]:
        """Yield the missing trainings; all of a fold share its data in Ray's object store."""
        by_fold = {}
        for arm, number in missing:
            fold = number % self.context.folds
            if fold not in by_fold:
                by_fold[fold] = ray.put(self.context.data.fold(fold))
            config = self.arms[arm]
            seeded = config.model_copy(update={"seed": config.seed + 1 + number})
            yield Training(phase="final", arm=arm, number=number, config=seeded, data=by_fold[fold])

    def _guarded(self, records: list[TrialRecord]) -> list[TrialRecord]:
        """The records with their guards on the test rows, against the baseline of the same replicate."""
        limits = self.context.config.guards
        baseline = {record.number: record.test for record in records if record.arm == BASELINE}
        return [
            replace(record, guards=guards(record.test, Baseline(base), limits))
            if record.arm != BASELINE and record.test is not None and (base := baseline.get(record.number)) is not None
            else record
            for record in records
        ]

    def _show(self, records: list[TrialRecord], number: int) -> None:
        """Print the line of a replicate once all arms have ended."""
        ended = {record.arm: record for record in records if record.number == number}
        if all(arm in ended for arm in self.arms):
            scores = "   ".join(f"{spoken(arm)} {_imbalance(ended[arm])}" for arm in self.arms)
            self.context.events.on_message(f"  {number + 1}: {scores}")


def _imbalance(record: TrialRecord) -> str:
    return record.state if record.test is None else f"{record.test.imbalance:.2f}x"
