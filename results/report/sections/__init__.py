"""Sections of the report. Add one with a module that holds a function, and its line in `SECTIONS`."""

from __future__ import annotations

from collections.abc import Callable

from results.records.study_record import StudyRecord
from results.report.sections.parts import Section, moment
from spinlock_dist.registry import Registry

SECTIONS: Registry[Callable[[StudyRecord], Section]] = Registry(
    "section",
    {
        "outcome": "results.report.sections.outcome:section",
        "config": "results.report.sections.config:section",
        "learned": "results.report.sections.learned:section",
        "limit": "results.report.sections.limit:section",
        "hypotheses": "results.report.sections.hypotheses:section",
        "course": "results.report.sections.course:section",
    },
)
"""In the order in which a reader asks."""


def sections(study: StudyRecord) -> dict[str, Section]:
    """The sections of a report by name."""
    return {name: section(study) for name, section in SECTIONS.items()}


def about(study: StudyRecord) -> str:
    """What was studied, in a line."""
    rows, config = study.prepared.get("rows", {}), study.description["config"]
    parts = (
        [f"{sum(rows.values())} rows in {len(study.prepared.get('characteristics', {}))} categories"] if rows else []
    )
    dataset = config.get("base", {}).get("prepare", {}).get("dataset") or "simulated operators"
    parts += [f"data: {dataset}", f"search space: {config.get('space')}", f"sampler: {config.get('sampler')}"]
    parts += [f"started {moment(str(study.description.get('started', '?')))}", study.stands]
    return ", ".join(parts)
