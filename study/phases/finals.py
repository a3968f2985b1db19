"""Finals: finalists, their matched controls and the baseline, on test rows that took no part in the search.

A replicate is a training seed and a fold: its models are trained on the other folds. All arms share both, so that
replicates give pairs. Test rows are those of the study's split, which steered nothing. Replicates are trained one after
another for whichever finalist is not yet decided, with what it is compared with: `results.verdict.verdict`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray

from results.analysis.trial_summary import COLLAPSED
from results.records.settings import STRATEGY
from results.records.stage import OUTCOMES
from results.records.trial_record import BASELINE, TrialRecord, feasible_records, full_arm, read_records, write_records
from results.verdict.finding import Verdict
from results.verdict.sentences import spoken
from results.verdict.verdict import Terms, judge
from spinlock_dist.config import TrialConfig
from spinlock_dist.live_settings import UNIFORM, settled
from study.config import StudyConfig
from study.context import StudyContext
from study.events import PhaseStart
from study.phases.search import Searched
from study.worker.retry_policy import collapsed
from study.worker.trainable import Training

FEEDBACK = "feedback"
PLAIN_FEEDBACK = "plain-feedback"
"""Arm of the base's own settings with `feedback`, where no trial of the search has these."""


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A config that is compared with uniform ratios."""

    arm: str
    config: TrialConfig
    record: TrialRecord | None
    """The trial of the search that it is; None if it is none."""


def choose_finalists(context: StudyContext, searched: Searched) -> list[Finalist]:
    """The best candidates by the estimate of their imbalance, plain `feedback` and the best trial with uniform ratios.

    Candidates are trials that completed and are not shown to break a guard. Of a tournament, the best of each search.
    Finalists of earlier finals, which a search that went on has overtaken, stay: they count as tried. None is there
    twice, and none has the baseline's config, but in a tournament, where each search is to be judged.
    """
    by_arm = {record.arm: record for record in searched.records}
    path = context.folder.records("final")
    earlier = [by_arm[each.arm] for each in (read_records(path) if path.exists() else []) if each.arm in by_arm]
    if context.config.tournament:
        best = [record for records in searched.by_arm.values() for record in feasible_records(records)[:1]]
        trials = {record.arm: record for record in (*best, *earlier)}
        return [Finalist(arm=arm, config=context.trial(trial), record=trial) for arm, trial in trials.items()]
    candidates, result_of = feasible_records(searched.records), partial(same_result, base=context.base)
    plain = context.base.with_overrides({STRATEGY: FEEDBACK})
    uniform = [record for record in candidates if context.trial(record).compression.strategy == UNIFORM]
    completed = [record for record in searched.records if record.state == "complete"]
    same = [each for each in completed if result_of(context.trial(each)) == result_of(plain)]
    found: dict[str, Finalist] = {}

    def add(config: TrialConfig, record: TrialRecord | None) -> None:
        key = result_of(config)
        if key != result_of(context.uniform) and key not in found:
            found[key] = Finalist(arm=record.arm if record else PLAIN_FEEDBACK, config=config, record=record)

    for record in candidates:
        if len(found) < context.config.finals.top:
            add(context.trial(record), record)
    add(plain, same[0] if same else None)
    for record in (*uniform[:1], *earlier):
        add(context.trial(record), record)
    return list(found.values())


def matched_control(config: TrialConfig, base: TrialConfig) -> TrialConfig:
    """The same training settings with uniform ratios; settings that these do not read are those of `base`."""
    return settled(config.with_overrides({STRATEGY: UNIFORM}), base)


def same_result(config: TrialConfig, base: TrialConfig) -> str:
    """Equal for configs that train to the same model, as they differ in nothing that is read."""
    return settled(config, base).model_dump_json()


def run_finals(context: StudyContext, searched: Searched) -> tuple[list[TrialRecord], Verdict, list[Finalist]]:
    """Train what is missing of the finals. Returns their records, the verdict and the finalists."""
    finalists = choose_finalists(context, searched)
    arms, controls = arms_and_controls(context, finalists)
    terms = terms_of(context.config, controls)
    records = Finals(context, arms, terms).run() if finalists else []
    return records, judge(records, terms), finalists


def arms_and_controls(
    context: StudyContext, finalists: Sequence[Finalist]
) -> tuple[dict[str, TrialConfig], dict[str, str]]:
    """What is trained, by arm, and each finalist's control, which is itself if it has uniform ratios.

    Equal controls share an arm. It is named after the earliest of their trials, not after the best: so it keeps its
    name, and what was trained of it, when a search that went on ranks them anew.
    """
    arms = {BASELINE: context.uniform}
    named = {same_result(context.uniform, context.base): BASELINE}
    controls = {}
    for finalist in finalists:
        arms[finalist.arm] = finalist.config
        if finalist.config.compression.strategy == UNIFORM:
            controls[finalist.arm] = finalist.arm
            named.setdefault(same_result(finalist.config, context.base), finalist.arm)
    others = [finalist for finalist in finalists if finalist.arm not in controls]
    for finalist in sorted(others, key=_age):
        key = same_result(matched_control(finalist.config, context.base), context.base)
        controls[finalist.arm] = named.setdefault(key, control_of(finalist.arm))
    for finalist in others:
        arms.setdefault(controls[finalist.arm], matched_control(finalist.config, context.base))
    return arms, {finalist.arm: controls[finalist.arm] for finalist in finalists}


def control_of(arm: str) -> str:
    """The arm of a control that is named after the finalist `arm`."""
    search, _, trial = arm.rpartition("/")
    return full_arm(search, f"control-{trial.removeprefix('trial-')}")


def _age(finalist: Finalist) -> tuple[bool, int]:
    """Sorts the earliest trial first, what is no trial last."""
    record = finalist.record
    return (True, 0) if record is None else (False, record.number)


def terms_of(config: StudyConfig, controls: Mapping[str, str]) -> Terms:
    """What the finals of a study are judged by."""
    split, finals = config.base.prepare.split, config.finals
    return Terms(
        controls=controls,
        overlap=split.test / (1 - split.test - split.validation_share),
        first=min(finals.min_replicates, finals.replicates),
        last=finals.replicates,
        worst_margin=finals.margins.worst,
        mean_margin=finals.margins.mean,
    )


@dataclass(frozen=True)
class Finals:
    """Trains replicates until every finalist is decided; the record of each training is kept as soon as it ends."""

    context: StudyContext
    arms: Mapping[str, TrialConfig]
    """The baseline, the finalists and their controls, in the order of the records."""
    terms: Terms

    def run(self) -> list[TrialRecord]:
        """The records by arm and replicate, after them those of arms that take no part any more."""
        path = self.context.folder.records("final")
        known = read_records(path) if path.exists() else []
        records = [record for record in known if record.arm in self.arms]
        others = [record for record in known if record.arm not in self.arms]
        if missing := self._missing(records):
            self._announce(records, missing)
            with self.context.events.phase(self._start(records, missing)):
                self._train(missing, records, lambda: write_records(path, [*records, *others]))
        place = {arm: place for place, arm in enumerate(self.arms)}
        return [*sorted(records, key=lambda record: (place[record.arm], record.number)), *others]

    def _start(self, records: Sequence[TrialRecord], missing: Sequence[tuple[str, int]]) -> PhaseStart:
        first = all(number < self.terms.first for _, number in missing) and len(self.terms.looks) > 1
        total = len(records) + len(missing)
        return PhaseStart(phase="finals", total=total, done=len(records), open_ended=first)

    def _train(self, missing: list[tuple[str, int]], records: list[TrialRecord], keep: Callable[[], None]) -> None:
        """Train what is missing, and what is missing after that; `records` grows, and is kept each time."""
        events, references = self.context.events, dict[int, Any]()
        while missing:
            self.context.folder.verdict.unlink(missing_ok=True)
            left = Counter(number for _, number in missing)
            total = len(records) + len(missing)
            events.on_phase_progress(len(records), total)
            for record in self.context.trained(self._trainings(missing, references)):
                kind = COLLAPSED if record.test is not None and collapsed(record.test) else ""
                records.append(replace(record, kind=kind))
                keep()
                events.on_phase_progress(len(records), total)
                left[record.number] -= 1
                if not left[record.number]:
                    self._show_replicate(records, record.number)
            self._show_decided(records)
            missing = self._missing(records)

    def _missing(self, records: Sequence[TrialRecord]) -> list[tuple[str, int]]:
        """What is to be trained next, as (arm, replicate), replicate by replicate."""
        known = {(record.arm, record.number) for record in records}
        wanted = set()
        for finding in judge(records, self.terms).findings:
            if not finding.decided:
                count = min(look for look in self.terms.looks if look > finding.replicates)
                wanted |= {(arm, n) for arm in (BASELINE, finding.arm, finding.control) for n in range(count)}
        place = {arm: place for place, arm in enumerate(self.arms)}
        return sorted(wanted - known, key=lambda pair: (pair[1], place[pair[0]]))

    def _trainings(self, missing: Sequence[tuple[str, int]], references: dict[int, Any]) -> Iterator[Training]:
        """Yield trainings; all of a fold share its data in Ray's object store."""
        for arm, number in missing:
            fold = number % self.context.folds
            if fold not in references:
                references[fold] = ray.put(self.context.data.fold(fold))
            config = self.arms[arm]
            seeded = config.model_copy(update={"seed": config.seed + 1 + number})
            yield Training(phase="final", arm=arm, number=number, config=seeded, data=references[fold])

    def _announce(self, records: Sequence[TrialRecord], missing: Sequence[tuple[str, int]]) -> None:
        """Say who takes part, and show the replicates that were trained before the study was interrupted."""
        finalists = ", ".join(map(spoken, self.terms.controls))
        controls = len(set(self.terms.controls.values()) - {BASELINE, *self.terms.controls})
        beside = f", {controls} matched control{'s' if controls > 1 else ''}" if controls else ""
        self.context.events.on_message(
            f"finals: {finalists}{beside} and the baseline on the test rows, "
            f"{' or '.join(map(str, self.terms.looks))} replicates"
        )
        for number in sorted({record.number for record in records} - {number for _, number in missing}):
            self._show_replicate(records, number)

    def _show_replicate(self, records: Sequence[TrialRecord], number: int) -> None:
        """Print the line of a replicate: the imbalance of every arm that is trained."""
        ended = {record.arm: record for record in records if record.number == number}
        told = [f"{spoken(arm)} {_imbalance(ended[arm])}" for arm in self.arms if arm in ended]
        self.context.events.on_message(f"  {number + 1}: {'   '.join(told)}")

    def _show_decided(self, records: Sequence[TrialRecord]) -> None:
        """Print who is decided."""
        words = [f"{spoken(each.arm)}: {each.verdict}" for each in judge(records, self.terms).findings if each.decided]
        if words:
            self.context.events.on_message(f"  decided: {'; '.join(words)}")


def _imbalance(record: TrialRecord) -> str:
    return OUTCOMES[record.state] if record.test is None else f"{record.test.estimate('imbalance'):.2f}x"
