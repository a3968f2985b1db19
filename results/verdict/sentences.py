"""Verdicts in sentences: first the imbalance, second the worst category's error, then the mean, each with interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.records.effect import factor
from results.records.guards import excess_in_words
from results.records.trial_record import BASELINE, TrialRecord, Word, feasible_records
from results.verdict.contrasts import LEVEL
from results.verdict.finding import Effects, Finding, Verdict

NAMES = {"imbalance": "imbalance", "fvu_worst": "worst category's error", "fvu_mean": "mean error"}
OPENINGS: dict[Word, str] = {
    "better": "{} is better than uniform ratios",
    "more even, but worse": "{} is more even than uniform ratios, but worse",
    "no difference shown": "no difference is shown between {} and uniform ratios",
    "worse": "{} is worse than uniform ratios",
}


def sentence(finding: Finding, limits: Mapping[str, float]) -> str:
    """The verdict in sentences; `limits` are the ratios up to which an error counted as kept."""
    opening = _capital(OPENINGS[finding.verdict].format(spoken(finding.arm)))
    if not finding.effects:
        text = f"{opening}: it and the baseline completed fewer than two replicates."
    else:
        rest_on = finding.effects["imbalance"].replicates
        count = f"{rest_on} of {finding.replicates}" if rest_on < finding.replicates else finding.replicates
        text = f"{opening}: {in_figures(finding.effects, 'the baseline')}, on {count} replicates."
    parts = [text, _control(finding), _reason(finding, limits), f"{finding.failed}." if finding.failed else ""]
    return " ".join(filter(None, parts))


def in_figures(effects: Effects, reference: str) -> str:
    """Effects in words, e.g. `relative to the baseline, imbalance x0.21 (0.18 to 0.25), worst category's ...`."""
    told = ", ".join(f"{words} x{effects[name]}" for name, words in NAMES.items())
    return f"relative to {reference}, {told}"


def _control(finding: Finding) -> str:
    if finding.control == finding.arm:
        return "Its ratios are uniform: whatever differs comes from how it is trained."
    if finding.control == BASELINE:
        return "Only its ratios differ from the baseline's settings, so that the baseline is its control too."
    if not finding.against_control:
        return "Its control, uniform ratios with its training settings, completed fewer than two replicates."
    return f"{_capital(in_figures(finding.against_control, 'its control'))}: uniform ratios with its training settings."


def _reason(finding: Finding, limits: Mapping[str, float]) -> str:
    """What kept a finalist that looks more even from being better."""
    effects, against = finding.effects, finding.against_control
    if not effects or not against:
        return ""
    if finding.verdict == "more even, but worse":
        lost = [name for name, limit in limits.items() if any(each[name].high > limit for each in (effects, against))]
        told = " nor ".join(f"its {NAMES[name]} to stay within {limits[name] - 1:.0%}" for name in lost)
        return f"Not shown: {told}."
    if finding.verdict == "no difference shown" and effects["imbalance"].high < 1:
        return "Its control may be as even: what it gains may come from its training settings."
    return ""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def spoken(arm: str) -> str:
    """An arm in words: `trial-5` is trial 5, `feedback/trial-5` is trial 5 of feedback."""
    strategy, _, trial = arm.rpartition("/")
    return trial.replace("-", " ") + (f" of {strategy}" if strategy else "")


def conclude(search: Sequence[TrialRecord], verdict: Verdict) -> str:
    """What the study shows: the verdict on the finalist that is exported, then the others' in short."""
    choice = verdict.choice
    if choice is None:
        return f"No finalist was compared with uniform ratios.{_nearest_miss(search)}"
    others = [finding for finding in verdict.in_order if finding is not choice]
    parts = [choice.why, claim(verdict)]
    if others:
        parts.append(f"Other finalists: {'; '.join(map(in_short, others))}.")
    if not feasible_records(search):
        parts.append(f"No trial of the search kept every guard.{_nearest_miss(search)}")
    return " ".join(parts)


def in_short(finding: Finding) -> str:
    """A finding in a few words: `trial 3: worse (imbalance x0.91, worst category's error x1.10, mean error x1.08)`."""
    figures = ", ".join(
        f"{words} x{factor(finding.effects[name].ratio)}" for name, words in NAMES.items() if finding.effects
    )
    return f"{spoken(finding.arm)}: {finding.verdict}" + (f" ({figures})" if figures else "")


def claim(verdict: Verdict) -> str:
    """What the intervals claim."""
    return (
        f"Figures are of the held-out test rows; intervals, of {100 * verdict.confidence:.4g}% each, hold for all "
        f"finalists and looks together in {1 - LEVEL:.0%} of studies."
    )


def _nearest_miss(search: Sequence[TrialRecord]) -> str:
    scored = [record for record in search if record.state == "complete" and record.metrics is not None]
    if not scored:
        return ""
    nearest = min(scored, key=lambda record: max(record.guards.values(), default=0.0))
    assert nearest.metrics is not None
    why = f"breaks {excess_in_words(nearest.guards)}" if nearest.broken_guards else nearest.kind
    return (
        f" The nearest miss is trial {nearest.number}, imbalance {nearest.metrics.estimate('imbalance'):.2f}x: {why}."
    )
