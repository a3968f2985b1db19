"""Which config?"""

from __future__ import annotations

import math
import shlex

from results.analysis.levelling import levelling
from results.records.settings import CHOICES, RATIO_SETTINGS, RULE, setting_in
from results.records.stage import outcome_in_words
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord, ranking
from results.report.sections.parts import MOST_ROWS, Cell, Section, Table, plain
from results.verdict.sentences import spoken
from spinlock_dist.command import typed
from spinlock_dist.errors import SpinlockError

ONLY_RATIOS = tuple(f"compression.{name}" for name in RATIO_SETTINGS)


def section(study: StudyRecord) -> Section:
    """The best config, its settings, and the ranking it leads."""
    best = study.best
    if best is None:
        return Section(title="Which config?", texts=["None yet: no trial is feasible."], tables=[_trials(study)])
    name, choices = spoken(best.arm), study.settings.in_words(best)
    texts = [f"{name[0].upper()}{name[1:]}: {choices}."]
    code = ""
    if (study.folder.best / "config.yaml").exists():
        code = f"{typed('spinlock_dist.train')} --config {shlex.quote(str(study.folder.best / 'config.yaml'))}"
    return Section(
        title="Which config?",
        texts=texts,
        code=code,
        tables=[_settings(study, best), _trials(study)],
    )


def _settings(study: StudyRecord, best: TrialRecord) -> Table:
    try:
        base = study.config().model_dump()
    except SpinlockError:
        base = {}
    names = [name for name in CHOICES if name != RULE or study.settings.has_rule(best)]
    names += [name for name in best.params if name not in CHOICES]
    rows: list[list[Cell | str | None]] = [
        [
            name,
            plain(study.settings.value(best, name)),
            None if name.startswith(ONLY_RATIOS) else plain(setting_in(base, name)),
        ]
        for name in names
    ]
    return Table("The best config's settings beside the baseline's", ("setting", "best", "baseline"), rows, (0,))


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
