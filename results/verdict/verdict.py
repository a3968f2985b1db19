"""What a study found about its finalists, claiming no more than was shown.

Each finalist is asked two questions, each at half of `LEVEL`. If no finalist differs from the baseline, anything but
*no difference shown* is therefore said in at most `LEVEL` of studies:

- *better*: is its imbalance lower? Holm's correction runs over the finalists.
- *worse*: is its imbalance higher, or does it break a guard? The correction runs over all of these and all finalists.

A finalist with a lower imbalance that is shown to break a guard is *worse*: it was levelled down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from results.analysis.levelling import best_fvu, worst_fvu
from results.records.effect import Effect
from results.records.guards import effect_on_guard, excess_in_words
from results.records.trial_record import BASELINE, TrialRecord, Word, best_record
from results.verdict.paired_tests import LEVEL, holm, paired_effect, rank_ranges, widened_interval
from spinlock_dist.metrics.record import Metrics

COMPARED: dict[str, Callable[[Metrics], float]] = {
    "imbalance": lambda metrics: metrics.imbalance,
    "fvu_worst": worst_fvu,
    "fvu_best": best_fvu,
    "fvu_mean": lambda metrics: metrics.fvu_mean,
    "utilization": lambda metrics: metrics.utilization,
    "perplexity_ratio": lambda metrics: metrics.perplexity_ratio,
    "bits_per_sample": lambda metrics: metrics.bits_per_sample,
}
"""What is compared, as the ratio of finalist to baseline in each pair. `fvu_worst` shows how far the worst category was
helped, `fvu_best` how far the best one was hurt: the levelling-down meter."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found about one finalist."""

    arm: str
    verdict: Word
    why: str
    """The verdict in a sentence, with the figures it rests on."""
    replicates: int
    """Of the finalist; as many pairs if it and the baseline completed all of them."""
    ranks: tuple[int, int]
    """First and last rank that it could have among the finalists by imbalance: ranks are claimed no further."""
    effects: dict[str, Effect]
    """By the names of `COMPARED`; empty below two pairs."""
    guards: dict[str, Effect]
    """Of 1 + the excess over each guard's limit, so that above 1 is broken: the ratio to the limit of `RATIOS`, 1 + the
    distance from it of `DIFFERENCES` (`results.records.guards`)."""
    broken: tuple[str, ...]
    """Guards that are shown to be broken."""
    new_data: tuple[float, float] | None
    """Interval of the ratio of imbalances for other rows of the same kind, where all replicates split the same rows."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found about all finalists, in the order of the search."""

    findings: tuple[Finding, ...]

    @property
    def in_order(self) -> list[Finding]:
        """The finalists by verdict, those with the same one in the order of the search."""
        order = ("better", "no difference shown", "worse")
        return sorted(self.findings, key=lambda finding: order.index(finding.verdict))

    @property
    def choice(self) -> Finding | None:
        """The finalist to export: the first of those with the best verdict. Correction for all allows choosing."""
        return next(iter(self.in_order), None)

    def to_json(self) -> dict[str, Any]:
        """The content of verdict.json."""
        return {"level": LEVEL, **asdict(self)}


def judge(finals: Sequence[TrialRecord], replicates: str, overlap: float = 0) -> Verdict:
    """Compare every finalist among the records with the baseline, paired by replicate, by the rules above.

    Each final record holds its guards relative to the baseline of its replicate. `replicates` says in the plural what a
    replicate is; `overlap` is test rows / training rows where replicates are splits of the same rows.
    """
    by_arm: dict[str, dict[int, TrialRecord]] = {}
    for record in finals:
        by_arm.setdefault(record.arm, {})[record.number] = record
    baseline = by_arm.pop(BASELINE, {})
    confidence = 1 - LEVEL / max(1, len(by_arm))
    compared = {arm: _compare(records, baseline, confidence) for arm, records in by_arm.items()}
    better, harmed = _shown(compared)
    ranks = rank_ranges(_common_imbalances(by_arm))
    findings = []
    for arm, records in by_arm.items():
        effects, guards = compared[arm]
        complete = all(record.state == "complete" for record in records.values())
        broken = tuple(name for name in guards if (arm, name) in harmed)
        # Harm goes first: a lower imbalance bought by breaking a guard is levelling down, not an improvement. And a
        # finalist that failed on some replicates is never better: those it completed may be the easy ones.
        verdict: Word = "no difference shown"
        if broken or (arm, "imbalance") in harmed:
            verdict = "worse"
        elif arm in better and complete:
            verdict = "better"
        findings.append(
            Finding(
                arm=arm,
                verdict=verdict,
                why=_sentence(arm, verdict, compared[arm], broken, records, replicates),
                replicates=len(records),
                ranks=ranks[arm],
                effects=effects,
                guards=guards,
                broken=broken,
                new_data=_new_data(records, baseline, overlap, confidence),
            )
        )
    return Verdict(findings=tuple(findings))


Compared = tuple[dict[str, Effect], dict[str, Effect]]


def _compare(records: Mapping[int, TrialRecord], baseline: Mapping[int, TrialRecord], confidence: float) -> Compared:
    """Effects on the figures and on the guards, over the replicates that both arms completed."""
    pairs = _pairs(records, baseline)
    ratios = {name: [figure(ours) / figure(base) for _, ours, base in pairs] for name, figure in COMPARED.items()}
    names = pairs[0][0].guards if pairs else {}
    limits = {name: [max(1 + record.guards[name], 1e-9) for record, _, _ in pairs] for name in names}
    return _effects(ratios, confidence), _effects(limits, confidence)


def _pairs(
    records: Mapping[int, TrialRecord], baseline: Mapping[int, TrialRecord]
) -> list[tuple[TrialRecord, Metrics, Metrics]]:
    """Record, its test metrics and the baseline's, for each replicate that both completed."""
    return [
        (record, record.test, base.test)
        for number, record in sorted(records.items())
        if record.test is not None and (base := baseline.get(number)) is not None and base.test is not None
    ]


def _new_data(
    records: Mapping[int, TrialRecord], baseline: Mapping[int, TrialRecord], overlap: float, confidence: float
) -> tuple[float, float] | None:
    ratios = [ours.imbalance / base.imbalance for _, ours, base in _pairs(records, baseline)]
    return widened_interval(ratios, overlap, confidence) if overlap else None


def _effects(ratios: Mapping[str, Sequence[float]], confidence: float) -> dict[str, Effect]:
    found = {name: paired_effect(values, confidence) for name, values in ratios.items()}
    return {name: effect for name, effect in found.items() if effect is not None}


def _shown(compared: Mapping[str, Compared]) -> tuple[set[str], set[tuple[str, str]]]:
    """The arms whose imbalance is shown to be lower, and what is shown to be worse, as (arm, name).

    For the imbalance, test and interval must agree. They can differ: with ten pairs or more the interval is a bootstrap
    and the p of sign flips, and Holm's correction is milder for all finalists but the first than the interval's
    (Bonferroni).

    Each question gets `LEVEL / 2`, one-sided. If no finalist differs from the baseline, *better* is said wrongly in at
    most 2.5% of studies and *worse* in at most 2.5%, so either of them in at most 5%.
    """
    imbalance = {arm: effects["imbalance"] for arm, (effects, _) in compared.items() if effects}
    lower = holm({arm: effect.p_lower for arm, effect in imbalance.items()})
    harm = {(arm, name): effect.p_higher for arm, (_, guards) in compared.items() for name, effect in guards.items()}
    harm |= {(arm, "imbalance"): effect.p_higher for arm, effect in imbalance.items()}
    harmed = {key for key, p in holm(harm).items() if p <= LEVEL / 2}
    return (
        {arm for arm, p in lower.items() if p <= LEVEL / 2 and imbalance[arm].high < 1},
        {key for key in harmed if key[1] != "imbalance" or imbalance[key[0]].low > 1},
    )


def _common_imbalances(by_arm: Mapping[str, Mapping[int, TrialRecord]]) -> dict[str, list[float]]:
    """Imbalances of each arm, over the replicates that all arms completed: ranks need the same ones for all."""
    scored = {
        arm: {number: record.test.imbalance for number, record in records.items() if record.test is not None}
        for arm, records in by_arm.items()
    }
    common = sorted(set.intersection(*map(set, scored.values()))) if scored else []
    return {arm: [values[number] for number in common] for arm, values in scored.items()}


# ---------------------------------------------------------------- sentences


def _sentence(
    arm: str,
    verdict: Word,
    compared: Compared,
    broken: Sequence[str],
    records: Mapping[int, TrialRecord],
    replicates: str,
) -> str:
    """The verdict on a finalist with the figures it rests on; `replicates` says in the plural what these are."""
    (effects, guards), trial = compared, spoken(arm)
    failed = [record for record in records.values() if record.state != "complete"]
    if not effects:
        return f"No difference is shown for {trial}: it and the baseline completed fewer than two {replicates}."
    imbalance = effects["imbalance"]
    opening = {
        "better": f"{trial} is better than the uniform baseline",
        "no difference shown": f"no difference is shown between {trial} and the uniform baseline",
        "worse": f"{trial} is worse than the uniform baseline",
    }[verdict]
    text = (
        f"{opening[0].upper()}{opening[1:]}: on {imbalance.pairs} {replicates} its imbalance is {imbalance.ratio:.2f} "
        f"times the baseline's ({_range(imbalance)}; lower on {imbalance.lower_in} of {imbalance.pairs}), its worst "
        f"category's error {_times(effects['fvu_worst'])}, its best category's {_times(effects['fvu_best'])} and its "
        f"mean error {_times(effects['fvu_mean'])}."
    )
    if verdict == "better" and effects["fvu_worst"].high >= 1:
        text += " No gain is shown for its worst category: the best categories pay for the balance."
    if broken:
        named = ", ".join(f"{name} ({effect_on_guard(name, guards[name])})" for name in broken)
        text += f" It is shown to break {named}."
    if failed:
        text += f" It failed on {len(failed)} of {len(records)}: {failed[0].reason}."
    return text


def spoken(arm: str) -> str:
    """An arm in words: `trial-5` is trial 5, `feedback/trial-5` is trial 5 of feedback."""
    strategy, _, trial = arm.rpartition("/")
    return trial.replace("-", " ") + (f" of {strategy}" if strategy else "")


def _range(effect: Effect) -> str:
    return f"{100 * effect.confidence:.4g}% interval {effect.low:.2f} to {effect.high:.2f}"


def _times(effect: Effect) -> str:
    return f"{effect.ratio:.2f} ({effect.low:.2f} to {effect.high:.2f})"


def conclude(baseline: TrialRecord, search: Sequence[TrialRecord], verdict: Verdict) -> str:
    """What the study shows: whether a trial kept every guard, and the verdict on it."""
    assert baseline.metrics is not None
    best = best_record(search)
    if best is None or best.metrics is None:
        return f"No trial beat the uniform baseline: none kept every guard.{_nearest_miss(search)}"
    found = f"{best.metrics.imbalance:.2f}x against the baseline's {baseline.metrics.imbalance:.2f}x"
    text = (
        f"On the validation rows, trial {best.number} has the lowest imbalance of all that keep every guard: {found}."
    )
    if best.metrics.imbalance >= baseline.metrics.imbalance:
        text = f"No feasible trial beat the uniform baseline: the best, trial {best.number}, has {found}."
    choice = verdict.choice
    others = [finding.why for finding in verdict.findings if finding is not choice]
    return " ".join([text, *([choice.why] if choice else []), *others])


def _nearest_miss(search: Sequence[TrialRecord]) -> str:
    scored = [record for record in search if record.state == "complete" and record.metrics is not None]
    if not scored:
        return ""
    nearest = min(scored, key=lambda record: max(record.guards.values()))
    assert nearest.metrics is not None
    why = f"breaks {excess_in_words(nearest.guards)}" if nearest.broken_guards else nearest.kind
    return f" The nearest miss is trial {nearest.number}, imbalance {nearest.metrics.imbalance:.2f}x: {why}."
