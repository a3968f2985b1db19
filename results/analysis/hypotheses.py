"""Four suspected causes of why adaptive ratios did not balance the categories, and what one study says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from results.analysis.capacity import realized_ratios, spread
from results.records.settings import TrialSettings
from results.records.study_record import StudyRecord
from results.records.trial_record import BASELINE, TrialRecord
from results.verdict.sentences import spoken
from spinlock_dist.metrics.raw_imbalance import split_raw_imbalance

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
    found = [
        _epochs(study),
        _clustering(study),
        _timid(study, baseline),
        _scale(study, baseline),
    ]
    if len(baseline.metrics.fvu) == 1:
        return [replace(each, word="cannot be told", why="One category alone has no imbalance.") for each in found]
    return found


def _epochs(study: StudyRecord) -> Hypothesis:
    """Compare the uniform baseline's imbalance half-way with its last, over all its seeds.

    Would more training have balanced it? A claim to either side needs the interval of the mean change.
    """
    name = "too few epochs"
    changes = [_second_half(record) for record in study.records if record.arm == BASELINE]
    found = np.log([change for change in changes if change is not None])
    if len(found) < 2:
        return Hypothesis(name, "cannot be told", "Not enough seeds of the baseline were evaluated often enough.")
    half = float(stats.t.ppf(0.975, len(found) - 1)) * float(found.std(ddof=1)) / len(found) ** 0.5
    low, mean, high = (float(np.exp(found.mean() + side * half)) for side in (-1, 0, 1))
    why = (
        f"In the second half of training the uniform baseline's imbalance changed by x{mean:.2f} "
        f"({low:.2f} to {high:.2f}; {len(found)} seeds)."
    )
    if high <= 1 - MATTERS:
        why += " It was still falling: train longer before judging ratios."
        return Hypothesis(name, "supported", why)
    if low > 1 - MATTERS:
        return Hypothesis(name, "ruled out", f"{why} Longer training does not even out the errors.")
    return Hypothesis(name, "cannot be told", f"{why} Not enough seeds to tell whether it was still falling.")


def _second_half(record: TrialRecord) -> float | None:
    """By what factor the imbalance of a training changed from half-way to its last report; None with too few."""
    curve = [report for report in record.learning_curve if "imbalance" in report]
    if len(curve) < 2:
        return None
    half = min(curve[:-1], key=lambda report: abs(report["epoch"] - curve[-1]["epoch"] / 2))
    return curve[-1]["imbalance"] / half["imbalance"]


def _clustering(study: StudyRecord) -> Hypothesis:
    """Ruled out only if something was shown to be better with the very categories that the baseline has."""
    name = "a different clustering"
    count = len(study.prepared.get("characteristics", {}))
    categories = f"the same {count} categories" if count else "the same categories"
    why = f"All trials and the baseline share {categories}, rows and split (fingerprint {study.fingerprint[:12]})."
    words = {each["arm"]: each["verdict"] for each in (study.verdict or {}).get("findings", [])}
    better = next((arm for arm in study.effects if words.get(arm) == "better"), None)
    if better is None:
        return Hypothesis(
            name, "cannot be told", f"{why} Nothing was shown to be better with them, so that they may be the cause."
        )
    effect = study.effects[better]["imbalance"]
    why += f" With these categories the imbalance of {spoken(better)} is x{effect} relative to the baseline's."
    return Hypothesis(name, "ruled out", why)


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
    best_published = min(
        (record.metrics.estimate("imbalance") for record, _ in published if record.metrics), default=0.0
    )
    (_, realized), score = ours[0], best.metrics.estimate("imbalance")
    why = (
        f"Under the published rules the realized ratios differ by at most {widest[1]:.2g}x between categories, and the "
        f"lowest imbalance is {best_published:.3g}x. In trial {best.number} they differ by {realized:.2g}x and the "
        f"imbalance is {score:.3g}x. The uniform baseline has {baseline.metrics.estimate('imbalance'):.3g}x."
    )
    gain = score < (1 - MATTERS) * min(best_published, baseline.metrics.estimate("imbalance"))
    if realized > widest[1] and gain:
        return Hypothesis(name, "supported", why)
    if gain:
        why += " How far the ratios spread does not decide it; where the bits go does."
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
    return widest[0] if widest[0].metrics.estimate("imbalance") > baseline.metrics.estimate("imbalance") else None


def _scale(study: StudyRecord, baseline: TrialRecord) -> Hypothesis:
    name, metrics = "feature scale", baseline.metrics
    assert metrics is not None
    if not metrics.mse_raw.keys() <= study.scales.keys():
        return Hypothesis(name, "cannot be told", "An earlier version prepared the data and did not keep its scales.")
    split = split_raw_imbalance(metrics.mse_raw, study.scales)
    why = (
        f"In raw units the uniform baseline's imbalance is {10**split.log10_imbalance:.3g}x ({split.worst} over "
        f"{split.best}): a scale ratio of {10**split.log10_scale:.3g}x times an error ratio of "
        f"{10**split.log10_fvu:.3g}x. On a logarithmic scale {split.scale_share:.0%} of it is scale. On normalized "
        f"features it is {metrics.estimate('imbalance'):.3g}x."
    )
    return Hypothesis(name, "supported" if split.scale_share > 0.5 else "not supported", why)
