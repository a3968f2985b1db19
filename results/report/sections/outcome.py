"""Did anything beat uniform ratios?"""

from __future__ import annotations

from typing import Any

from results.analysis.category_words import described, moves
from results.analysis.config_words import config_in_words
from results.records.study_record import StudyRecord
from results.records.trial_record import BASELINE
from results.report.diagnoses import diagnosed
from results.report.sections.parts import Cell, Link, Section, Table, Tile
from results.verdict.sentences import spoken

LEAST_BITS = 0.05
"""A category that has fewer more or less counts as having as many."""


def section(study: StudyRecord) -> Section:
    """The verdict, or what there is before one."""
    choice = _choice(study)
    told = study.verdict or {}
    word = choice["verdict"] if choice else ""
    heading = {
        "better": "Yes: the best config is shown to be better than uniform ratios.",
        "more even, but worse": "Not as it should: the best config is more even than uniform ratios, but worse.",
        "no difference shown": "Not shown: the difference from uniform ratios may be luck.",
        "worse": "No: the best config is shown to be worse than uniform ratios.",
    }.get(word, "Not decided: no finalist has been compared with the baseline on the test rows.")
    return Section(
        title="Did anything beat uniform ratios?",
        verdict=heading,
        tone={"better": "better", "more even, but worse": "worse", "worse": "worse"}.get(word, ""),
        texts=[*_config(study, choice), *([] if told else [_so_far(study)])],
        tiles=_effect_tiles(choice) if choice and choice["effects"] else _tiles(study),
        reasons=_reasons(study, word),
        links=_links(study),
        notes=[told["conclusion"]] if "conclusion" in told else [],
        tables=[_finalists(study)],
    )


def _choice(study: StudyRecord) -> dict[str, Any] | None:
    """The finding on the exported trial, else the first one."""
    findings = (study.verdict or {}).get("findings", [])
    exported = (study.verdict or {}).get("exported")
    return next((each for each in findings if each["arm"] == exported), findings[0] if findings else None)


def _config(study: StudyRecord, choice: dict[str, Any] | None) -> list[str]:
    """Which config it is, and how surely it was measured."""
    best = study.best
    if best is None:
        return []
    words = spoken(best.arm)
    text = f"{words[0].upper()}{words[1:]}: {config_in_words(study, best)}."
    if choice and choice["arm"] == best.arm and choice["effects"]:
        text += f" Measured on {choice['replicates']} replicates beside uniform ratios, on rows that steered nothing."
    return [text]


def _reasons(study: StudyRecord, word: str) -> list[str]:
    """Where the best trial has other bits than uniform ratios, and what came of it, with the names of features.

    Of one that is not shown to be better, `word` being the verdict, it is no reason but what it did.
    """
    best, base = study.best, study.baseline
    if best is None or best.metrics is None or base is None or base.metrics is None:
        return []
    if study.settings.strategy(best) == "uniform":
        return ["Its ratios are uniform too: what differs is how it is trained."]
    found = moves(base.metrics, best.metrics)
    if not found or not best.metrics.codebooks:
        return []
    worst, gained = found[0], [each.bits[1] - each.bits[0] for each in found]
    opening = "Why" if word == "better" else "What it did"
    texts = [f"{opening}: worst under uniform ratios was {worst.in_words(study)}."]
    if (given := sum(change for change in gained if change > 0)) >= LEAST_BITS:
        donor = found[gained.index(min(gained))]
        takers = sum(change >= LEAST_BITS for change in gained)
        texts[0] += f" In all, {given:.0f} bits moved, to {takers} of {len(found)} categories."
        texts.append(f"The most was given up by {donor.in_words(study)}.")
    if (now := best.metrics.worst_category) != worst.category:
        features = described(study.categories.get(now, ()))
        texts.append(f"Worst is now {now}{f' ({features})' if features else ''}, FVU {best.metrics.fvu[now]:.3f}.")
    return texts


def _links(study: StudyRecord) -> list[Link]:
    """The diagnoses that lie in the study's folder."""
    names = {"best": "Diagnosis of the best config", "baseline": "Diagnosis of uniform ratios"}
    pages = {name: page for name, (_, page) in diagnosed(study.folder).items() if page.exists()}
    return [Link(names[name], f"{page.parent.name}/{page.name}") for name, page in pages.items()]


def _so_far(study: StudyRecord) -> str:
    best, base = study.best, study.baseline
    if base is None or base.metrics is None:
        return f"The uniform baseline has not been trained{study.so_far}."
    if best is None or best.metrics is None:
        baseline = base.metrics.in_words("imbalance")
        return f"No trial keeps every guard{study.so_far}. The uniform baseline's imbalance is {baseline}."
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
    if choice.get("against_control") and choice.get("control") not in (BASELINE, choice["arm"]):
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
            *(None if each["control"] == each["arm"] else _cell(each["against_control"], name) for name in LABELS),
            Cell(str(each["replicates"]), each["replicates"]),
        ]
        for each in findings
    ]
    heads = ("finalist", "verdict", *(f"{label} / baseline's" for label in LABELS.values()))
    heads += (*(f"{label} / control's" for label in LABELS.values()), "replicates")
    caption = (
        "Finalists on the test rows. A control has the finalist's training settings and uniform ratios: what it gains "
        "too is no gain by compression. A finalist with uniform ratios is its own control."
    )
    return Table(caption, heads, rows, words=(0, 1), wraps=True)


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
