"""How did it go?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from results.analysis.trial_summary import outcomes_in_words
from results.records.stage import OUTCOMES
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from results.report.sections.parts import MOST_ROWS, Cell, Section, Table, moment, plain
from results.verdict.sentences import spoken


def section(study: StudyRecord) -> Section:
    """How the trials ended, and what they ran on."""
    texts = [outcomes_in_words(study.search)] if study.search else []
    if study.running:
        waiting = ", ".join(arm.replace("-", " ") for arm in study.running[:12])
        texts.append(f"Still running or waiting: {waiting}{' and more' if len(study.running) > 12 else ''}.")
    if aside := {f"{each.device} of {each.node}": each for each in study.device_faults if each.set_aside}:
        texts.append(
            "Set aside, because one training after another failed there: "
            + "; ".join(f"{name} ({each.model or 'model unknown'}): {each.reason}" for name, each in aside.items())
            + ". Trials that met this ran again elsewhere."
        )
    return Section(
        title="How did it go?",
        texts=texts,
        tables=[_failures(study.search), _device_faults(study), _devices(study), _versions(study)],
    )


def _failures(search: Sequence[TrialRecord]) -> Table:
    rows: list[list[Cell | str | None]] = [
        [
            spoken(each.arm),
            OUTCOMES[each.state],
            each.kind,
            Cell(str(len(each.attempts)), len(each.attempts)),
            each.reason,
        ]
        for each in search
        if each.state not in ("complete", "pruned") or each.kind
    ]
    heads = ("trial", "state", "kind", "attempts", "reason")
    return Table("Trials that diverged, were refused, failed or collapsed", heads, rows[:MOST_ROWS], words=(0, 1, 2, 4))


def _device_faults(study: StudyRecord) -> Table:
    rows: list[list[Cell | str | None]] = [
        [moment(each.when), each.node, each.device, each.model, each.training, each.reason]
        for each in study.device_faults
    ]
    heads = ("when", "node", "device", "model", "training", "reason")
    return Table("Devices that failed", heads, rows[:MOST_ROWS], words=(0, 1, 2, 3, 4, 5))


def _devices(study: StudyRecord) -> Table:
    """What the trials ran on; those of earlier versions do not say."""
    counts = Counter((each.node, each.device, each.model) for each in study.search if each.device)
    rows: list[list[Cell | str | None]] = [[*where, Cell(str(count), count)] for where, count in sorted(counts.items())]
    return Table("What the trials ran on", ("node", "device", "model", "trials"), rows[:MOST_ROWS], words=(0, 1, 2))


def _versions(study: StudyRecord) -> Table:
    known = {**study.description.get("versions", {}), **study.description.get("hardware", {})}
    known |= {"commit": study.description.get("git_commit"), "data": study.fingerprint[:16]}
    rows: list[list[Cell | str | None]] = [[name, plain(value)] for name, value in known.items()]
    return Table("Versions and hardware", ("what", "version or size"), rows, words=(0, 1))
