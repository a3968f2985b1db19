"""What a study found about its finalists, in four words that claim no more than was shown.

A finalist is compared with two references on the held-out test rows: the uniform baseline, and its *matched control*,
the same training settings with uniform ratios. What the control gains as well is no gain by compression.

Finalists are looked at twice, after a few replicates and, if these do not decide, after all. Intervals allow for that,
and for choosing the best finalist afterwards: each has the confidence 1 - `LEVEL` / (finalists * looks), so that those
of one figure hold for all finalists and looks together in 95% of studies, however they depend on each other. (That is
Bonferroni's bound; over looks it is a group-sequential test that spends as much at each.) *better* needs several things
to be shown, and no correction for that: it is wrong only if one that does not hold is shown. *worse* takes one of
several, but two of the three have a margin to cross first. What this comes to is simulated: `benchmarks/verdict.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from results.records.trial_record import BASELINE, TrialRecord, Word
from results.verdict.contrasts import FIGURES, LEVEL, contrast, rank_ranges
from results.verdict.finding import Effects, Finding, Verdict
from results.verdict.sentences import sentence
from spinlock_dist.metrics.record import Metrics


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What finals are judged by, fixed before the first of them is trained."""

    controls: Mapping[str, str]
    """The arm of the matched control of each finalist: `baseline` where only ratios differ from it, and a finalist with
    uniform ratios itself. Finalists are the keys."""
    overlap: float
    """Of replicates: `results.verdict.contrasts.contrast`."""
    first: int = 3
    """Replicates at the first look."""
    last: int = 6
    """Replicates at the last look."""
    worst_margin: float = 0.02
    """How much the worst category's error may rise, relative to it, and still count as kept."""
    mean_margin: float = 0.05
    """The same of the mean error."""

    @property
    def confidence(self) -> float:
        """Of each interval, so that all hold together in 1 - `LEVEL` of studies."""
        return 1 - LEVEL / (max(1, len(self.controls)) * len(self.looks))

    @property
    def looks(self) -> list[int]:
        """Replicates at each look. Each further look would widen all intervals, by more than an early word saves."""
        return sorted({self.first, self.last})

    @property
    def limits(self) -> dict[str, float]:
        """Ratios up to which an error counts as kept."""
        return {"fvu_worst": 1 + self.worst_margin, "fvu_mean": 1 + self.mean_margin}


def judge(finals: Sequence[TrialRecord], terms: Terms) -> Verdict:
    """The verdict on every finalist that the terms name, from records of finalists, controls and baseline.

    Each is looked at after `first` replicates, and after `last` if the first look does not decide.
    """
    by_arm: dict[str, dict[int, TrialRecord]] = {}
    for record in finals:
        by_arm.setdefault(record.arm, {})[record.number] = record
    scored = {arm: _scored(records, terms.last) for arm, records in by_arm.items()}
    ranks = rank_ranges({arm: scored.get(arm, {}) for arm in terms.controls}, terms.overlap, LEVEL / len(terms.looks))
    findings = [_look_until_decided(arm, by_arm, terms, ranks[arm]) for arm in terms.controls]
    return Verdict(
        findings=tuple(replace(each, why=sentence(each, terms.limits)) for each in findings),
        confidence=terms.confidence,
        limits=terms.limits,
    )


def _look_until_decided(
    arm: str, by_arm: Mapping[str, Mapping[int, TrialRecord]], terms: Terms, ranks: tuple[int, int]
) -> Finding:
    arms = {arm, terms.controls[arm], BASELINE}
    trained = next(n for n in range(terms.last + 1) if n == terms.last or any(n not in by_arm.get(a, {}) for a in arms))
    for look in [look for look in terms.looks if look <= trained] or [trained]:
        finding = _look(arm, by_arm, terms, look, ranks)
        if finding.decided:
            break
    return finding


def _look(
    arm: str, by_arm: Mapping[str, Mapping[int, TrialRecord]], terms: Terms, look: int, ranks: tuple[int, int]
) -> Finding:
    """What the first `look` replicates show about a finalist."""
    control = terms.controls[arm]
    ours, base = ({n: r for n, r in by_arm.get(each, {}).items() if n < look} for each in (arm, BASELINE))
    effects = _effects(ours, base, terms)
    against = {} if control == arm else effects
    if control not in (arm, BASELINE):
        against = _effects(ours, {n: r for n, r in by_arm.get(control, {}).items() if n < look}, terms)
    failed = _failure(ours, base, terms.limits["fvu_worst"])
    word: Word
    word, settled = ("worse", True) if failed else _word(effects, against, terms.limits)
    enough = look >= terms.first
    return Finding(
        arm=arm,
        verdict=word if enough else "no difference shown",
        decided=enough and (settled or look == terms.last or control == arm),
        replicates=look,
        control=control,
        effects=effects,
        against_control=against,
        failed=failed,
        ranks=ranks,
    )


def _word(effects: Effects, against: Effects, limits: Mapping[str, float]) -> tuple[Word, bool]:
    """The word that intervals support, and whether more replicates would not change it.

    What has its own ratios for a control (no `against`) is never said to beat them. It gets no more replicates than the
    first look's, as only harm is left to be shown. An error that is shown to be raised does not settle the word alone:
    whether the imbalance is lower decides between two.
    """
    both = [each for each in (effects, against) if each]
    lower = len(both) == 2 and all(each["imbalance"].high < 1 for each in both)
    if lower and all(each[name].high <= limit for each in both for name, limit in limits.items()):
        return "better", True
    raised = [any(each[name].low > limit for name, limit in limits.items()) for each in both]
    if lower:
        return "more even, but worse", any(raised)
    if effects and (effects["imbalance"].low > 1 or raised[0]):
        return "worse", effects["imbalance"].low > 1
    return "no difference shown", False


def _effects(ours: Mapping[int, TrialRecord], theirs: Mapping[int, TrialRecord], terms: Terms) -> Effects:
    arms = _scored(ours, terms.last), _scored(theirs, terms.last)
    found = {name: contrast(*arms, name, terms.overlap) for name in FIGURES}
    return {name: each.effect(terms.confidence) for name, each in found.items() if each is not None}


def _scored(records: Mapping[int, TrialRecord], count: int) -> dict[int, Metrics]:
    """Test metrics of the first `count` replicates that completed."""
    return {n: record.test for n, record in records.items() if n < count and record.test is not None}


def _failure(ours: Mapping[int, TrialRecord], base: Mapping[int, TrialRecord], limit: float) -> str:
    """How a replicate failed where the baseline's did not; empty if none did.

    It did not complete, or collapsed and has a worst category above the margin. Without that a category near an FVU of
    1 in all arms, which no config can encode, would make finalists fail by chance.
    """
    failures = []
    for number, record in sorted(ours.items()):
        reference = base.get(number)
        if reference is None or reference.test is None:
            continue
        if record.test is None:
            failures.append(record.reason or record.state)
        elif record.kind and not reference.kind and record.test.fvu_worst > limit * reference.test.fvu_worst:
            failures.append(record.kind)
    return f"{len(failures)} of {len(ours)} replicates failed: {failures[0]}" if failures else ""
