"""Finals: the finalists and the baseline, trained on replicates that took no part in the search.

A replicate is a split of its own (or, in simulated data, a dataset of its own) with a training seed of its own; the
arms share both, so that each replicate gives one pair. Seeds on one split would be near copies of each other.

Validation rows of the study's split steered the search: they are never test rows of a replicate. Features and
categories are those the study found, unless it says otherwise; all that is fitted is fitted on the replicate's own
training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import ray

from results.records.study_folder import StudyFolder
from results.records.trial_record import BASELINE, TrialRecord, feasible_records, read_records, write_records
from results.verdict.verdict import Verdict, judge, spoken
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.prepare import PreparedData, prepare
from study.config import StudyConfig
from study.context import StudyContext
from study.phases.search import Searched
from study.search.constraints import guards
from study.worker.trainable import Training

REPLICATES = {"splits": "new splits of the data", "simulations": "newly simulated datasets"}
"""What a replicate is, in the plural, by `finals.data`."""


def run_finals(context: StudyContext, searched: Searched) -> list[TrialRecord]:
    """Train the finalists, in a tournament the best of each arm, and the baseline on the replicates."""
    top = 1 if context.config.tournament else context.config.finals.top
    finalists = [record for records in searched.by_arm.values() for record in feasible_records(records)[:top]]
    if not finalists:
        return []
    arms = {BASELINE: context.uniform, **{record.arm: context.trial(record) for record in finalists}}
    return Finals(context, arms).run()


def judge_finals(config: StudyConfig, finals: Sequence[TrialRecord]) -> Verdict:
    """The verdict on each finalist. Where all replicates split the same rows, they share some."""
    split = config.base.prepare.split
    overlap = split.test / split.train if config.finals.data == "splits" else 0.0
    return judge(finals, REPLICATES[config.finals.data], overlap)


def replicate_config(config: StudyConfig, folder: StudyFolder, number: int) -> PrepareConfig:
    """What makes the data of a replicate. It names files of the study; nothing else is needed."""
    given = config.base.prepare
    seed = given.split.seed + 1 + number
    split = given.split.model_copy(update={"seed": seed, "search_seed": given.split.seed})
    simulator, categories = given.simulator, given.categories
    if config.finals.data == "simulations":
        simulator = simulator.model_copy(update={"seed": simulator.seed + 1 + number})
        split = split.model_copy(update={"search_seed": None})
    if config.finals.categories == "kept":
        found = {"mapping": str(folder.categories), "only_mapped": True}
        categories = categories.model_copy(update=found)
    return given.model_copy(update={"split": split, "simulator": simulator, "categories": categories})


@dataclass(frozen=True)
class Finals:
    """Runs what is missing of the finals; the record of every training is kept as soon as it ends."""

    context: StudyContext
    arms: Mapping[str, TrialConfig]
    """The baseline and the finalists, in the order of the records."""
    lost: dict[int, list[str]] = field(default_factory=dict)
    """By replicate: features of the study that do not vary in its training rows."""

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
            what = f"{config.finals.replicates} {REPLICATES[config.finals.data]}"
            self.context.events.on_message(f"finals: {finalists} and the baseline on {what}")
        for record in self.context.workers.run(self._trainings(missing)):
            seeds = _seeds(replicate_config(config, folder, record.number))
            records.append(replace(record, params=seeds, lost=self.lost[record.number]))
            records = self._guarded(records)
            write_records(path, records)
            self._show(records, record.number)
        place = {arm: place for place, arm in enumerate(self.arms)}
        return sorted(records, key=lambda record: (place.get(record.arm, len(place)), record.arm, record.number))

    def _trainings(self, missing: list[tuple[str, int]]) -> Iterator[Training]:
        """Yield the missing trainings; the data of a replicate is prepared when its first training is due."""
        prepared: int | None = None
        for arm, number in missing:
            if number != prepared:
                data = prepare(replicate_config(self.context.config, self.context.folder, number))
                self.lost[number] = self._lost(data)
                reference, prepared = ray.put(data), number
            config = self.arms[arm]
            given = {"seed": config.seed + 1 + number, "prepare": data.config}
            yield Training(
                phase="final", arm=arm, number=number, config=config.model_copy(update=given), data=reference
            )

    def _lost(self, data: PreparedData) -> list[str]:
        if self.context.config.finals.categories == "rediscovered":
            return []
        return sorted(set(self.context.data.feature_names) - set(data.feature_names))

    def _guarded(self, records: list[TrialRecord]) -> list[TrialRecord]:
        """The records with their guards on the test rows, against the baseline of the same replicate."""
        limits = self.context.config.guards
        baseline = {record.number: record.test for record in records if record.arm == BASELINE}
        return [
            replace(record, guards=guards(record.test, base, limits))
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


def _seeds(config: PrepareConfig) -> dict[str, int]:
    return {"prepare.split.seed": config.split.seed, "prepare.simulator.seed": config.simulator.seed}


def _imbalance(record: TrialRecord) -> str:
    return record.state if record.test is None else f"{record.test.imbalance:.2f}x"
