"""Four suspected causes of why adaptive ratios did not balance the categories, and what one study says of each."""

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
"""Smallest relative change of an imbalance that supports a claim."""


@dataclass(frozen=True)
class Hypothesis:
    """A suspected cause, whether the study supports it, and on which figures."""

    name: str
    word: Word
    why: str


def hypotheses(study: StudyRecord) -> list[Hypothesis]:
    """The four suspected causes; none before there is a baseline."""
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
    name, curve = "too few epochs", [report for report in baseline.learning_curve if "imbalance" in report]
    if len(curve) < 3:
        return Hypothesis(name, "cannot be told", "The baseline was evaluated too few times to show a trend.")
    last = curve[-1]
    half = min(curve[:-1], key=lambda report: abs(report["epoch"] - last["epoch"] / 2))
    change, worst = last["imbalance"] / half["imbalance"] - 1, last["fvu_worst"] / half["fvu_worst"] - 1
    why = (
        f"From epoch {half['epoch']:g} to {last['epoch']:g} the uniform baseline's imbalance went from "
        f"{half['imbalance']:.3g}x to {last['imbalance']:.3g}x ({change:+.0%}), and the error of its worst category "
        f"changed by {worst:+.0%}."
    )
    if change <= -MATTERS:
        return Hypothesis(
            name, "supported", why + " The imbalance was still falling: train longer before judging ratios."
        )
    return Hypothesis(name, "not supported", why + " Longer training does not even out the errors.")


def _clustering(study: StudyRecord) -> Hypothesis:
    count = len(study.prepared.get("characteristics", {}))
    categories = f"the same {count} categories" if count else "the same categories"
    why = f"All trials and the baseline share {categories}, rows and split (fingerprint {study.fingerprint[:12]})."
    finals = study.description["config"].get("finals", {})
    if study.phase("final") and finals.get("categories") == "rediscovered":
        why += " The finals found the categories anew on each split, and the verdict covers all of these."
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
        return Hypothesis(
            name, "cannot be told", "This needs a trial with a published rule and a feasible trial to compare it with."
        )
    widest = max(published, key=lambda each: each[1])
    best_published = min((record.metrics.imbalance for record, _ in published if record.metrics), default=0.0)
    (_, realized), score = ours[0], best.metrics.imbalance
    why = (
        f"Under the published rules the realized ratios differ by at most {widest[1]:.2g}x between categories, and the "
        f"lowest imbalance is {best_published:.3g}x. In trial {best.number} they differ by {realized:.2g}x and the "
        f"imbalance is {score:.3g}x. The uniform baseline has {baseline.metrics.imbalance:.3g}x."
    )
    gain = score < (1 - MATTERS) * min(best_published, baseline.metrics.imbalance)
    if realized > widest[1] and gain:
        return Hypothesis(name, "supported", why)
    wide = _wide_and_worse(study, baseline)
    why += (
        f" A wider spread alone is not enough: trial {wide.number} has the widest and is worse than the baseline."
        if wide
        else ""
    )
    return Hypothesis(name, "not supported", why)


def _spreads(
    records: Sequence[TrialRecord], baseline: TrialRecord, settings: TrialSettings
) -> list[tuple[TrialRecord, float]]:
    found = [(record, realized_ratios(record, baseline, settings)) for record in records]
    return [(record, spread(ratios)) for record, ratios in found if ratios is not None]


def _wide_and_worse(study: StudyRecord, baseline: TrialRecord) -> TrialRecord | None:
    """The trial whose ratios lie farthest apart, if it is less balanced than the baseline."""
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
        f"{split.raw.best}): a scale ratio of {split.scale:.3g}x times an FVU ratio of {split.fvu:.3g}x. On a "
        f"logarithmic scale {split.scale_share:.0%} of it is scale. On normalized features it is "
        f"{baseline.metrics.imbalance:.3g}x."
    )
    word: Word = "supported" if split.scale_share > 0.5 else "not supported"
    return Hypothesis("feature scale", word, why)
