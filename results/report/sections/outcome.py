"""Did anything beat uniform ratios?"""

from __future__ import annotations

from typing import Any

from results.records.study_record import StudyRecord
from results.report.sections.parts import Section, Tile


def section(study: StudyRecord) -> Section:
    """The verdict, or what there is before one."""
    choice = _choice(study)
    told = study.verdict or {}
    texts = [told["conclusion"]] if "conclusion" in told else []
    word = choice["verdict"] if choice else ""
    heading = {
        "better": "Yes: the best config is shown to be better than uniform ratios.",
        "worse": "No: the best config is shown to be worse than uniform ratios.",
        "no difference shown": "Not shown: the difference from uniform ratios may be luck.",
    }.get(word, "Not decided: no finalist has been compared with the baseline on new splits.")
    if not told:
        texts.append(_so_far(study))
    return Section(
        title="Did anything beat uniform ratios?",
        verdict=heading,
        tone=word if word in ("better", "worse") else "",
        texts=texts,
        tiles=_effect_tiles(choice) if choice and choice["effects"] else _tiles(study),
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
        return f"No trial keeps every guard yet. The uniform baseline's imbalance is {base.metrics.imbalance:.2f}x."
    return (
        f"So far, on the validation rows, trial {best.number} has imbalance {best.metrics.imbalance:.2f}x against "
        f"the baseline's {base.metrics.imbalance:.2f}x; the FVU of its worst category is {best.metrics.fvu_worst:.3f} "
        f"against {base.metrics.fvu_worst:.3f}. The trial was selected on these rows, so its scores are optimistic."
    )


def _effect_tiles(choice: dict[str, Any]) -> list[Tile]:
    labels = {
        "imbalance": "imbalance",
        "fvu_worst": "worst category",
        "fvu_best": "best category",
        "fvu_mean": "mean error",
        "utilization": "utilization",
        "bits_per_sample": "bits",
    }
    return [
        Tile(
            f"{label} / baseline's",
            f"{effect['ratio']:.3g}",
            f"{effect['low']:.3g} to {effect['high']:.3g} ({100 * effect['confidence']:.4g}%)",
        )
        for name, label in labels.items()
        if (effect := choice["effects"].get(name)) is not None
    ]


def _tiles(study: StudyRecord) -> list[Tile]:
    best, base = study.best, study.baseline
    if best is None or best.metrics is None or base is None or base.metrics is None:
        return []
    ours, theirs = best.metrics, base.metrics
    return [
        Tile("imbalance", f"{ours.imbalance:.2f}x", f"baseline {theirs.imbalance:.2f}x"),
        Tile("worst category, FVU", f"{ours.fvu_worst:.3f}", f"baseline {theirs.fvu_worst:.3f}"),
        Tile("mean, FVU", f"{ours.fvu_mean:.3f}", f"baseline {theirs.fvu_mean:.3f}"),
        Tile("utilization", f"{ours.utilization:.0%}", f"baseline {theirs.utilization:.0%}"),
        Tile("bits per sample", f"{ours.bits_per_sample:.1f}", f"baseline {theirs.bits_per_sample:.1f}"),
    ]
