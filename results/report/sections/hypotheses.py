"""Which of the four suspected causes?"""

from __future__ import annotations

from results.analysis.capacity import realized_ratios, spread
from results.analysis.hypotheses import hypotheses
from results.analysis.recommendations import recommendations
from results.records.study_record import StudyRecord
from results.report.sections.parts import Cell, Section, Table
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import LEVELS


def section(study: StudyRecord) -> Section:
    """What the study says to each suspected cause of an imbalance."""
    found = hypotheses(study)
    rows: list[list[Cell | str | None]] = [[each.name, each.word, each.why] for each in found]
    texts = [] if found else ["The uniform baseline has to be trained first."]
    if (spreads := _spreads(study)) is not None:
        texts.append(spreads)
    table = Table("Suspected causes of the imbalance", ("cause", "this study", "why"), rows, words=(0, 1, 2))
    advice: list[list[Cell | str | None]] = [[each.advice, each.came] for each in recommendations(study)]
    came = Table("What the source recommended to try", ("recommendation", "what came of it"), advice, words=(0, 1))
    return Section(title="Which of the four suspected causes?", texts=texts, tables=[table, came])


def _spreads(study: StudyRecord) -> str | None:
    if study.best is None or study.baseline is None:
        return None
    ratios = realized_ratios(study.best, study.baseline, study.settings)
    if ratios is None:
        return None
    ranges = ", ".join(
        f"{level} {column.min():.2f} to {column.max():.2f} (uniform {uniform:g})"
        for level, column, uniform in zip(LEVELS, ratios.T, UNIFORM_RATIOS, strict=True)
    )
    return f"Realized ratios of the best trial: {ranges}; on average {spread(ratios):.2g}x apart between categories."
