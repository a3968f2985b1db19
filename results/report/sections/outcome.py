"""Did anything beat uniform ratios?"""

from __future__ import annotations

from typing import Any

from results.records.study_record import StudyRecord
from results.records.trial_record import BASELINE
from results.report.sections.parts import Cell, Section, Table, Tile
from results.verdict.sentences import spoken


def section(study: StudyRecord) -> Section:
    """The verdict, or what there is before one."""
    choice = _choice(study)
    told = study.verdict or {}
    texts = [told["conclusion"]] if "conclusion" in told else []
    word = choice["verdict"] if choice else ""
    heading = {
        "better": "Yes: the best config is shown to be better than uniform ratios.",
        "more even, but worse": "Not as it should: the best config is more even than uniform ratios, but worse.",
        "no difference shown": "Not shown: the difference from uniform ratios may be luck.",
        "worse": "No: the best config is shown to be worse than uniform ratios.",
    }.get(word, "Not decided: no finalist has been compared with the baseline on the test rows.")
    if not told:
        texts.append(_so_far(study))
    return Section(
        title="Did anything beat uniform ratios?",
        verdict=heading,
        tone={"better": "better", "more even, but worse": "worse", "worse": "worse"}.get(word, ""),
        texts=texts,
        tiles=_effect_tiles(choice) if choice and choice["effects"] else _tiles(study),
        tables=[_finalists(study)],
    )


def _choice(study: StudyRecord) -> dict[str, Any] | None:
    """The finding on the exported trial, else the first one."""
    findings = (study.verdict or {}).get("findings", [])
    exported = (study.verdict or {}).get("exported")
    return next((each for each in findings if each["arm"] == exported), findings[0] if findings else None)


def _so_far(study: StudyRecord) -> str:
    best, base = study.best, study.baseline
    if base is None or base.metrics is None:
        return "The uniform baseline has not been trained yet."
    if best is None or best.metrics is None:
        baseline = base.metrics.in_words("imbalance")
        return f"No trial keeps every guard yet. The uniform baseline's imbalance is {baseline}."
    return (
        f"So far, on the validation rows, trial {best.number} has imbalance {best.metrics.estimate('imbalance'):.2f}x "
        f"against the baseline's {base.metrics.estimate('imbalance'):.2f}x; the FVU of its worst category is "
        f"{best.metrics.estimate('fvu_worst'):.3f} against {base.metrics.estimate('fvu_worst'):.3f}. The trial was "
        "selected on these rows, so its scores are optimistic."
    )


LABELS = {"imbalance": "imbalance", "fvu_worst": "worst category", "fvu_mean": "mean error"}
"""In the order in which they are told everywhere."""


def _effect_tiles(choice: dict[str, Any]) -> list[Tile]:
    """Ratios to the baseline's, then those to the control's where it is trained apart."""
    references = {"baseline's": choice["effects"]}
    if choice.get("against_control") and choice.get("control") != BASELINE:
        references["control's"] = choice["against_control"]
    return [
        Tile(
            f"{label} / {whose}",
            f"{effect['ratio']:.2f}",
            f"{effect['low']:.2f} to {effect['high']:.2f} ({100 * effect['confidence']:.4g}%)",
        )
        for whose, effects in references.items()
        for name, label in LABELS.items()
        if (effect := effects.get(name)) is not None
    ]


def _finalists(study: StudyRecord) -> Table:
    """Every finalist beside the baseline and its matched control; nothing where an earlier version judged."""
    findings = [each for each in (study.verdict or {}).get("findings", []) if "against_control" in each]
    rows: list[list[Cell | str | None]] = [
        [
            spoken(each["arm"]),
            each["verdict"],
            *(_cell(each["effects"], name) for name in LABELS),
            *(_cell(each["against_control"], name) for name in LABELS),
            Cell(str(each["replicates"]), each["replicates"]),
        ]
        for each in findings
    ]
    heads = ("finalist", "verdict", *(f"{label} / baseline's" for label in LABELS.values()))
    heads += (*(f"{label} / control's" for label in LABELS.values()), "replicates")
    caption = (
        "Finalists on the test rows. A control has the finalist's training settings and uniform ratios: what it gains "
        "too is no gain by compression. Where the finalist's ratios are uniform it has no other control than itself."
    )
    return Table(caption, heads, rows, words=(0, 1))


def _cell(effects: dict[str, Any], name: str) -> Cell | None:
    if (effect := effects.get(name)) is None:
        return None
    return Cell(f"{effect['ratio']:.2f} ({effect['low']:.2f} to {effect['high']:.2f})", effect["ratio"])


def _tiles(study: StudyRecord) -> list[Tile]:
    best, base = study.best, study.baseline
    if best is None or best.metrics is None or base is None or base.metrics is None:
        return []
    ours, theirs = best.metrics, base.metrics
    return [
        Tile("imbalance", f"{ours.in_words('imbalance')}", f"baseline {theirs.in_words('imbalance')}"),
        Tile("worst category, FVU", f"{ours.in_words('fvu_worst')}", f"baseline {theirs.in_words('fvu_worst')}"),
        Tile("mean, FVU", f"{ours.in_words('fvu_mean')}", f"baseline {theirs.in_words('fvu_mean')}"),
        Tile("utilization", f"{ours.utilization:.0%}", f"baseline {theirs.utilization:.0%}"),
        Tile("per sample", ours.carried_in_words(), f"baseline {theirs.carried_in_words()}"),
    ]
