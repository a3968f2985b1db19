"""Which config?"""

from __future__ import annotations

import math
import shlex
from typing import Any

from results.analysis.category_words import described, moves
from results.analysis.config_words import config_in_words
from results.analysis.levelling import levelling
from results.records.settings import CHOICES, STRATEGY, setting_in
from results.records.stage import outcome_in_words
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord, ranking
from results.report.sections.parts import MOST_ROWS, Cell, Section, Table, plain
from results.verdict.sentences import spoken
from spinlock_dist.command import typed
from spinlock_dist.errors import SpinlockError
from spinlock_dist.live_settings import UNIFORM, is_live

NO_EFFECT = "no effect"
MOST_FEATURES = 4
"""Of a category, by name."""


def section(study: StudyRecord) -> Section:
    """The best config, its settings, and the ranking it leads."""
    best = study.best
    if best is None:
        none = f"None{study.so_far}: no trial is feasible."
        return Section(title="Which config?", texts=[none], tables=[_trials(study)])
    name = spoken(best.arm)
    texts = [f"{name[0].upper()}{name[1:]}: {config_in_words(study, best)}."]
    code = ""
    if (study.folder.best / "config.yaml").exists():
        code = f"{typed('spinlock_dist.train')} --config {shlex.quote(str(study.folder.best / 'config.yaml'))}"
    return Section(
        title="Which config?",
        texts=texts,
        code=code,
        tables=[_settings(study, best), _categories(study, best), _trials(study)],
    )


def _settings(study: StudyRecord, best: TrialRecord) -> Table:
    try:
        base = study.config().model_dump()
    except SpinlockError:
        base = {}
    inert = study.settings.is_inert

    def of_baseline(name: str) -> Any:
        return UNIFORM if name == STRATEGY else setting_in(base, name)

    names = [name for name in CHOICES if name in best.params or not inert(best, name)]
    names += [name for name in best.params if name not in CHOICES]
    rows: list[list[Cell | str | None]] = [
        [
            name,
            NO_EFFECT if inert(best, name) else plain(study.settings.value(best, name)),
            plain(of_baseline(name)) if is_live(name, of_baseline) else NO_EFFECT,
        ]
        for name in names
    ]
    caption = f"The best config's settings beside the baseline's; {NO_EFFECT}: nothing reads it beside the others"
    return Table(caption, ("setting", "best", "baseline"), rows, (0, 1, 2))


def _categories(study: StudyRecord, best: TrialRecord) -> Table:
    """What every category is, has and comes to, under uniform ratios and in the best trial."""
    base = study.baseline
    found = moves(base.metrics, best.metrics) if base and base.metrics and best.metrics else []
    rows: list[list[Cell | str | None]] = [
        [
            each.category,
            *(Cell(f"{bits:.1f}", bits) for bits in each.bits),
            *each.codes,
            *(Cell(f"{fvu:.3f}", fvu) for fvu in each.fvu),
            described(study.categories.get(each.category, ()), most=MOST_FEATURES),
        ]
        for each in found
    ]
    heads = ("category", "bits, uniform", "bits", "codes, uniform", "codes", "FVU, uniform", "FVU", "features")
    caption = (
        "Every category, the worst under uniform ratios first: bits per sample, codes of L0, L1 and L2 (64x8: two "
        "codebooks), and FVU on the validation rows, under uniform ratios and in the best trial"
    )
    return Table(caption, heads, rows, words=(0, 7))


def _trials(study: StudyRecord) -> Table:
    ranked = ranking(study.search)[:MOST_ROWS]
    settings = study.settings.apart(ranked)
    rows = [
        _trial(place if record.feasible else None, record, settings[place - 1], study)
        for place, record in enumerate(ranked, start=1)
    ]
    heads = ("rank", "trial", "imbalance", "worst", "mean", "util", "carried", "help", "hurt", "settings", "feasible")
    caption = (
        "Completed trials on the validation rows, feasible ones first; only these have a rank. The imbalance fell by "
        "the factor help x hurt: help because the worst category improved, hurt because the best one got worse. "
        "Carried: entropy of the tokens on these rows / the bits paid for them."
    )
    return Table(caption, heads, rows, words=(1, 9, 10))


def _trial(place: int | None, record: TrialRecord, settings: str, study: StudyRecord) -> list[Cell | str | None]:
    metrics = record.metrics
    assert metrics is not None
    gain = levelling(metrics, study.baseline.metrics) if study.baseline and study.baseline.metrics else None
    helped, hurt = (10**gain.worst_helped, 10**gain.best_hurt) if gain else (math.nan, math.nan)
    return [
        None if place is None else Cell(str(place), place),
        spoken(record.arm),
        *(Cell(metrics.in_words(name), metrics.estimate(name)) for name in ("imbalance", "fvu_worst", "fvu_mean")),
        Cell(f"{metrics.utilization:.1%}", metrics.utilization),
        None if metrics.carried_share is None else Cell(f"{metrics.carried_share:.0%}", metrics.carried_share),
        Cell(f"{helped:.2f}", helped) if gain else None,
        Cell(f"{hurt:.2f}", hurt) if gain else None,
        settings,
        "yes" if record.feasible else outcome_in_words(record),
    ]
