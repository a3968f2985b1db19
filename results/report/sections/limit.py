"""How far from the rate-distortion limit?"""

from __future__ import annotations

from results.analysis.capacity import AtLimit, at_limit, reachable_imbalance
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from results.report.sections.parts import Section
from results.verdict.sentences import spoken
from spinlock_dist.errors import SpinlockError
from spinlock_dist.metrics.record import Metrics


def section(study: StudyRecord) -> Section:
    """The best trial beside the Gaussian rate-distortion reference."""
    best, texts = study.best or study.baseline, []
    if best is not None and best.metrics is not None:
        metrics = best.metrics
        who = "The uniform baseline" if best.phase == "baseline" else spoken(best.arm).capitalize()
        texts.append(
            f"{who} has {metrics.reference_distance:.2f} times the error of the Gaussian reference at the same bits "
            f"(geometric mean over categories). For its allocation the reference predicts an imbalance of "
            f"{metrics.reference_imbalance:.2f}x; the measured one is {metrics.in_words('imbalance')}. With so many "
            f"rows, equally good categories would show {metrics.imbalance_by_chance:.2f}x by chance."
        )
        texts += _reachable(study, best)
    texts.append(
        "The reference is the least error possible for a Gaussian with the same correlations coded in long blocks. "
        "Real quantizers, which code one sample at a time, have 1.2 times (wide categories) to 2 times (5 features) "
        "its error; other distributions may lie above or below it."
    )
    return Section(
        title="How far from the rate-distortion limit?",
        texts=texts,
    )


def _reachable(study: StudyRecord, best: TrialRecord) -> list[str]:
    characteristics, rows = study.prepared.get("characteristics"), study.prepared.get("rows", {}).get("train")
    if not characteristics or not rows or best.metrics is None:
        return []
    try:
        compression = study.config(best if best.phase == "search" else None).compression
    except SpinlockError:
        return []
    reachable = reachable_imbalance(characteristics, best.metrics, compression, rows)
    texts = [
        f"The lowest imbalance the reference allows at these bits, with codebooks no larger than {rows} training rows "
        f"support, is {reachable:.2f}x."
    ]
    found = at_limit(best.metrics, compression, rows)
    return texts + ([] if found is None else [_cost(found, best.metrics)])


def _cost(found: AtLimit, metrics: Metrics) -> str:
    """What categories that can be taken no further cost."""

    def named(categories: list[str]) -> str:
        return ", ".join(f"{name} (FVU {metrics.fvu[name]:.3g})" for name in categories)

    parts = [
        f"{named(found.least)} cannot give more bits away" if found.least else "",
        f"{named(found.most)} cannot take more, its codebooks being as large as can be" if found.most else "",
    ]
    return (
        f"{'; '.join(part for part in parts if part)}. The imbalance measured is {metrics.imbalance:.2f}x, of the "
        f"other categories {found.imbalance_without:.2f}x."
    )
