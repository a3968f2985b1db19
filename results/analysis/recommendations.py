"""What the source's comparison recommended to try next, and what came of each in a study.

They are those at the end of Spinlock's own comparison of uniform and adaptive ratios on 10,000 operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.analysis.capacity import bits_of
from results.analysis.category_words import described
from results.analysis.hypotheses import hypotheses
from results.analysis.strategies import by_strategy
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from spinlock_dist.metrics.record import Metrics

MOST_FEATURES = 5
"""Features of a category that are named."""


@dataclass(frozen=True)
class Recommendation:
    """A recommendation of the source, and what came of it."""

    advice: str
    came: str


def recommendations(study: StudyRecord) -> list[Recommendation]:
    """The five, in the source's order; none before there is a baseline."""
    baseline = study.baseline
    if baseline is None or baseline.metrics is None:
        return []
    epochs, _, _, scale = hypotheses(study)
    return [
        Recommendation("Train to the end instead of 5 epochs", epochs.why),
        Recommendation("Investigate normalization, encoders and cleaning", scale.why),
        Recommendation("Make the strategies bolder", _strategies(study, baseline.metrics)),
        Recommendation("Look into the category with the largest error", _worst(study, baseline.metrics)),
        Recommendation("Compare at the same length of training", _same_length(study, baseline)),
    ]


def _strategies(study: StudyRecord, baseline: Metrics) -> str:
    """The best trial of each strategy, feasible or not, against the baseline."""
    rows = []
    for row in by_strategy(study.search, study.settings):
        trial = row.best or _least(study.search, study, row.strategy)
        if row.strategy in ("", "uniform") or trial is None or trial.metrics is None:
            continue
        imbalance = trial.metrics.estimate("imbalance") / baseline.estimate("imbalance")
        worst = trial.metrics.estimate("fvu_worst") / baseline.estimate("fvu_worst")
        rows.append((imbalance, f"{row.strategy} {imbalance:.2f} and {worst:.2f}"))
    if not rows:
        return "No trial of another strategy completed."
    told = "; ".join(text for _, text in sorted(rows))
    return f"Imbalance and worst category's error of each strategy's best trial, times the baseline's: {told}."


def _least(search: Sequence[TrialRecord], study: StudyRecord, strategy: str) -> TrialRecord | None:
    completed = [
        record
        for record in search
        if record.state == "complete" and record.metrics and study.settings.strategy(record) == strategy
    ]
    return min(
        completed, key=lambda record: record.metrics.estimate("imbalance") if record.metrics else 0, default=None
    )


def _worst(study: StudyRecord, baseline: Metrics) -> str:
    name = baseline.worst_category
    features = described(study.categories.get(name, ()), most=MOST_FEATURES)
    text = f"Under uniform ratios that is {name}{f' ({features})' if features else ''}, "
    text += f"with FVU {baseline.fvu[name]:.3f} at {bits_of(baseline)[name]:.1f} bits."
    best = study.best
    if best is not None and best.metrics is not None and name in best.metrics.fvu:
        text += (
            f" In trial {best.number} it has {best.metrics.fvu[name]:.3f} at {bits_of(best.metrics)[name]:.1f} bits."
        )
    return text


def _same_length(study: StudyRecord, baseline: TrialRecord) -> str:
    completed = [record for record in study.search if record.state == "complete"]
    epochs = sorted({record.epochs for record in (baseline, *completed)})
    told = " or ".join(map(str, epochs))
    return (
        f"The baseline and all {len(completed)} trials that completed were trained for {told} epochs, folds together."
    )
