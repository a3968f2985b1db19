"""Finals: the finalists and the baseline, trained on replicates that took no part in the search.

A replicate is a split of its own (or, in simulated data, a dataset of its own) with a training seed of its own; the
arms share both, so that each replicate gives one pair. Seeds on one split would be near copies of each other.

Validation rows of the study's split steered the search: they are never test rows of a replicate. Features and
categories are those the study found, unless it says otherwise; all that is fitted is fitted on the replicate's own
training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import ray

from results.records.study_folder import StudyFolder
from results.records.trial_record import BASELINE, TrialRecord, read_records, write_records
from results.verdict.verdict import spoken
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.prepare import PreparedData, prepare
from study.config import StudyConfig
from study.search.constraints import guards
from study.worker.tasks import Training, Workers

REPLICATES = {"splits": "new splits of the data", "simulations": "newly simulated datasets"}
"""What a replicate is, in the plural, by `finals.data`."""


@dataclass(frozen=True)
class Finals:
    """Runs what is missing of the finals of a study; every training that ends is kept at once."""

    config: StudyConfig
    folder: StudyFolder
    data: PreparedData
    workers: Workers
    say: Callable[[str], None]
    lost: dict[int, list[str]] = field(default_factory=dict)
    """By replicate: features of the study that its training rows do not vary in."""

    def run(self, arms: Mapping[str, TrialConfig]) -> list[TrialRecord]:
        """Return a record per arm, in their order, and replicate, with their guards; the baseline is one of the arms.

        Finalists of before, which a search that went on has overtaken, are returned as well: they count as tried.
        """
        path = self.folder.records("final")
        records = read_records(path) if path.exists() else []
        known = {(record.arm, record.number) for record in records}
        wanted = [(arm, number) for number in range(self.config.finals.replicates) for arm in arms]
        missing = [pair for pair in wanted if pair not in known]
        if missing:
            self.folder.verdict.unlink(missing_ok=True)
            finalists = ", ".join(spoken(arm) for arm in arms if arm != BASELINE)
            what = f"{self.config.finals.replicates} {REPLICATES[self.config.finals.data]}"
            self.say(f"finals: {finalists} and the baseline on {what}")
        for record in self.workers.run(self._trainings(arms, missing)):
            records.append(
                replace(record, params=_identity(self.prepare_config(record.number)), lost=self.lost[record.number])
            )
            records = self._guarded(records)
            write_records(path, records)
            self._tell(records, arms, record.number)
        place = {arm: place for place, arm in enumerate(arms)}
        return sorted(records, key=lambda record: (place.get(record.arm, len(place)), record.arm, record.number))

    def _trainings(self, arms: Mapping[str, TrialConfig], missing: list[tuple[str, int]]) -> Iterator[Training]:
        """Yield the missing trainings, preparing a replicate's data when its turn has come."""
        prepared: int | None = None
        for arm, number in missing:
            if number != prepared:
                data = prepare(self.prepare_config(number))
                self.lost[number] = self._lost(data)
                reference, prepared = ray.put(data), number
            config = arms[arm]
            given = {"seed": config.seed + 1 + number, "prepare": data.config}
            yield Training(
                phase="final", arm=arm, number=number, config=config.model_copy(update=given), data=reference
            )

    def prepare_config(self, number: int) -> PrepareConfig:
        """Return what makes the data of a replicate. It names files of the study; nothing else is needed."""
        given = self.config.base.prepare
        seed = given.split.seed + 1 + number
        split = given.split.model_copy(update={"seed": seed, "search_seed": given.split.seed})
        simulator, categories = given.simulator, given.categories
        if self.config.finals.data == "simulations":
            simulator = simulator.model_copy(update={"seed": simulator.seed + 1 + number})
            split = split.model_copy(update={"search_seed": None})
        if self.config.finals.categories == "kept":
            found = {"mapping": str(self.folder.categories), "only_mapped": True}
            categories = categories.model_copy(update=found)
        return given.model_copy(update={"split": split, "simulator": simulator, "categories": categories})

    def _lost(self, data: PreparedData) -> list[str]:
        if self.config.finals.categories == "rediscovered":
            return []
        return sorted(set(self.data.feature_names) - set(data.feature_names))

    def _guarded(self, records: list[TrialRecord]) -> list[TrialRecord]:
        """Return the records with their guards on the test rows, against the baseline of the same replicate."""
        baseline = {record.number: record.test for record in records if record.arm == BASELINE}
        return [
            replace(record, guards=guards(record.test, base, self.config.guards))
            if record.arm != BASELINE and record.test is not None and (base := baseline.get(record.number)) is not None
            else record
            for record in records
        ]

    def _tell(self, records: list[TrialRecord], arms: Mapping[str, TrialConfig], number: int) -> None:
        """Print a replicate's line once all arms have ended."""
        ended = {record.arm: record for record in records if record.number == number}
        if all(arm in ended for arm in arms):
            self.say(f"  {number + 1}: " + "   ".join(f"{spoken(arm)} {_imbalance(ended[arm])}" for arm in arms))


def _identity(config: PrepareConfig) -> dict[str, int]:
    return {"prepare.split.seed": config.split.seed, "prepare.simulator.seed": config.simulator.seed}


def _imbalance(record: TrialRecord) -> str:
    return record.state if record.test is None else f"{record.test.imbalance:.2f}x"
