"""The four readings of why adaptive ratios did not balance the categories, and what one study says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from results.analysis.capacity import realized_ratios, spread
from results.analysis.raw_error import split_raw
from results.records.settings import TrialSettings
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord

Word = Literal["supported", "not supported", "ruled out", "cannot be told"]

MATTERS = 0.1
"""Relative change of an imbalance that is worth a claim."""


@dataclass(frozen=True)
class Hypothesis:
    """A suspected cause, whether the study supports it, and the figures that say so."""

    name: str
    word: Word
    why: str


def hypotheses(study: StudyRecord) -> list[Hypothesis]:
    """Return the four suspected causes; none before there is a baseline."""
    baseline = study.baseline
    if baseline is None or baseline.metrics is None:
        return []
    return [
        _epochs(baseline),
        _clustering(study),
        _timid(study, baseline),
        _scale(baseline),
    ]


def _epochs(baseline: TrialRecord) -> Hypothesis:
    """Compare the uniform baseline's imbalance half-way with its last: would more training have balanced it?"""
    name, curve = "too few epochs", [report for report in baseline.curve if "imbalance" in report]
    if len(curve) < 3:
        return Hypothesis(name, "cannot be told", "The baseline has too few reports to show a trend.")
    last = curve[-1]
    half = min(curve[:-1], key=lambda report: abs(report["epoch"] - last["epoch"] / 2))
    change, worst = last["imbalance"] / half["imbalance"] - 1, last["fvu_worst"] / half["fvu_worst"] - 1
    why = (
        f"From epoch {half['epoch']:g} to {last['epoch']:g} the imbalance of uniform ratios went from "
        f"{half['imbalance']:.3g}x to {last['imbalance']:.3g}x ({change:+.0%}), the error of their worst category "
        f"{worst:+.0%}."
    )
    if change <= -MATTERS:
        return Hypothesis(name, "supported", why + " It was still falling: train longer before judging ratios.")
    return Hypothesis(name, "not supported", why + " More training does not make the errors more equal.")


def _clustering(study: StudyRecord) -> Hypothesis:
    count = len(study.prepared.get("characteristics", {}))
    categories = f"the same {count} categories" if count else "the same categories"
    why = f"Every trial and the baseline have {categories}, rows and split (fingerprint {study.fingerprint[:12]})."
    finals = study.description["config"].get("finals", {})
    if study.phase("final") and finals.get("categories") == "rediscovered":
        why += " The finals found the categories anew on each split, and the verdict holds over these."
    return Hypothesis("a different clustering", "ruled out", why)


def _timid(study: StudyRecord, baseline: TrialRecord) -> Hypothesis:
    """Compare what the ratios came to under the published rules and in the best trial."""
    name, best = "too timid a strategy", study.best
    assert baseline.metrics is not None
    settings = study.settings
    rule = [record for record in study.search if settings.follows_published_rule(record)]
    published = _spreads(rule, baseline, settings)
    ours = _spreads([best], baseline, settings) if best else []
    if not published or not ours or best is None or best.metrics is None:
        return Hypothesis(name, "cannot be told", "It takes a trial of a published rule and a feasible one to compare.")
    widest = max(published, key=lambda each: each[1])
    best_published = min((record.metrics.imbalance for record, _ in published if record.metrics), default=0.0)
    (_, realized), score = ours[0], best.metrics.imbalance
    why = (
        f"Under the published rules the ratios of categories came out at most {widest[1]:.2g}x apart, and the "
        f"imbalance at {best_published:.3g}x or more; in trial {best.number} they are {realized:.2g}x apart, "
        f"imbalance {score:.3g}x. Uniform ratios: {baseline.metrics.imbalance:.3g}x."
    )
    gain = score < (1 - MATTERS) * min(best_published, baseline.metrics.imbalance)
    if realized > widest[1] and gain:
        return Hypothesis(name, "supported", why)
    wide = _wide_and_worse(study, baseline)
    why += f" Spreading more is not enough: trial {wide.number} spread them wider and scored worse." if wide else ""
    return Hypothesis(name, "not supported", why)


def _spreads(
    records: Sequence[TrialRecord], baseline: TrialRecord, settings: TrialSettings
) -> list[tuple[TrialRecord, float]]:
    found = [(record, realized_ratios(record, baseline, settings)) for record in records]
    return [(record, spread(ratios)) for record, ratios in found if ratios is not None]


def _wide_and_worse(study: StudyRecord, baseline: TrialRecord) -> TrialRecord | None:
    """Return the trial whose ratios lie farthest apart, if it is less balanced than the baseline."""
    assert baseline.metrics is not None
    widest = max(_spreads(study.search, baseline, study.settings), key=lambda each: each[1], default=None)
    if widest is None or widest[0].metrics is None:
        return None
    return widest[0] if widest[0].metrics.imbalance > baseline.metrics.imbalance else None


def _scale(baseline: TrialRecord) -> Hypothesis:
    assert baseline.metrics is not None
    split = split_raw(baseline.metrics)
    why = (
        f"In raw units the uniform baseline's imbalance is {split.raw.imbalance:.3g}x ({split.raw.worst} over "
        f"{split.raw.best}) = scale {split.scale:.3g}x times FVU {split.fvu:.3g}x: {split.scale_share:.0%} of its "
        f"magnitude is scale. Normalized it is {baseline.metrics.imbalance:.3g}x."
    )
    word: Word = "supported" if split.scale_share > 0.5 else "not supported"
    return Hypothesis("feature scale", word, why)
