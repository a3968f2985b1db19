"""What a report says, section by section: plain sentences, figures of note, tables, and which plots stand there."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from results.analysis.capacity import reachable_imbalance, realized_ratios, spread
from results.analysis.hypotheses import hypotheses
from results.analysis.importance import study_importances
from results.analysis.levelling import levelling
from results.analysis.strategies import by_strategy
from results.analysis.trial_summary import outcomes_in_words
from results.records.settings import CHOICES, RULE, setting_in
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord, ranking
from results.verdict.verdict import spoken
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import LEVELS
from spinlock_dist.errors import SpinlockError

ONLY_RATIOS = tuple(
    f"compression.{name}" for name in ("rule", "capacity", "bounds", "sharpness", "min_ratio_range", "feedback")
)
"""Settings that only shape ratios: uniform ones, the baseline's, do not depend on them."""
MOST_ROWS = 200
"""Trials in the table of a report, the best ones."""


@dataclass(frozen=True)
class Cell:
    """A figure in a table: as shown, and as sorted by."""

    text: str
    sort: float


@dataclass(frozen=True)
class Table:
    """A table that a reader can sort; `words` are the columns of text."""

    caption: str
    heads: tuple[str, ...]
    rows: list[list[Cell | str | None]]
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tile:
    """One figure of note."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question and what the study says to it."""

    id: str
    title: str
    verdict: str = ""
    tone: str = ""
    """`better`, `worse` or nothing: how the verdict is coloured."""
    texts: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    code: str = ""
    tables: list[Table] = field(default_factory=list)
    plots: tuple[str, ...] = ()
    """By the names of `results.report.plots.PLOTS`."""


def sections(study: StudyRecord) -> list[Section]:
    """Return the sections of a report, in the order in which a reader asks."""
    return [_outcome(study), _config(study), _learned(study), _limit(study), _hypotheses(study), _course(study)]


def about(study: StudyRecord) -> str:
    """Return what was studied in a line."""
    rows, config = study.prepared.get("rows", {}), study.description["config"]
    parts = (
        [f"{sum(rows.values())} rows in {len(study.prepared.get('characteristics', {}))} categories"] if rows else []
    )
    dataset = config.get("base", {}).get("prepare", {}).get("dataset") or "simulated operators"
    parts += [f"data: {dataset}", f"search space: {config.get('space')}", f"sampler: {config.get('sampler')}"]
    parts += [f"started {study.description.get('started', '?')}", study.state]
    return ", ".join(parts)


# ---------------------------------------------------------------- sections


def _outcome(study: StudyRecord) -> Section:
    choice = _choice(study)
    told = study.verdict or {}
    texts = [told["conclusion"]] if "conclusion" in told else []
    word = choice["verdict"] if choice else ""
    heading = {
        "better": "Yes: shown to be better than uniform ratios.",
        "worse": "No: shown to be worse than uniform ratios.",
        "no difference shown": "Not shown: no difference from uniform ratios that is more than luck.",
    }.get(word, "Not decided: no finalist has been held against the baseline on new splits.")
    if not told:
        texts.append(_so_far(study))
    return Section(
        id="outcome",
        title="Did anything beat uniform ratios?",
        verdict=heading,
        tone=word if word in ("better", "worse") else "",
        texts=texts,
        tiles=_effect_tiles(choice) if choice and choice["effects"] else _tiles(study),
        plots=("effects", "categories"),
    )


def _choice(study: StudyRecord) -> dict[str, Any] | None:
    """Return the finding on the exported trial, or the first one."""
    findings = (study.verdict or {}).get("findings", [])
    exported = (study.verdict or {}).get("exported")
    return next((each for each in findings if each["arm"] == exported), findings[0] if findings else None)


def _so_far(study: StudyRecord) -> str:
    best, base = study.best, study.baseline
    if base is None or base.metrics is None:
        return "The uniform baseline has not been trained yet."
    if best is None or best.metrics is None:
        return f"No trial that keeps every guard yet; the uniform baseline has imbalance {base.metrics.imbalance:.2f}x."
    return (
        f"So far, on the validation rows: trial {best.number} has imbalance {best.metrics.imbalance:.2f}x against "
        f"{base.metrics.imbalance:.2f}x, worst category {best.metrics.fvu_worst:.3f} against "
        f"{base.metrics.fvu_worst:.3f}. One split picked this trial, so that its own figure is too good."
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
            f"{effect['low']:.3g} to {effect['high']:.3g} ({100 * effect['confidence']:.4g} %)",
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


def _config(study: StudyRecord) -> Section:
    best = study.best
    if best is None:
        return Section(
            id="config", title="Which config?", texts=["None yet: no feasible trial."], tables=[_trials(study)]
        )
    name, choices = spoken(best.arm), study.settings.in_words(best)
    texts = [f"{name[0].upper()}{name[1:]}: {choices}."]
    code = ""
    if (study.folder.best / "config.yaml").exists():
        code = f"python -m spinlock_dist.train --config {shlex.quote(str(study.folder.best / 'config.yaml'))}"
    return Section(
        id="config",
        title="Which config?",
        texts=texts,
        code=code,
        tables=[_settings(study, best), _trials(study)],
        plots=("ratios",),
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
            _plain(study.settings.value(best, name)),
            None if name.startswith(ONLY_RATIOS) else _plain(setting_in(base, name)),
        ]
        for name in names
    ]
    return Table("Its choices and searched settings, and the baseline's", ("setting", "best", "baseline"), rows, (0,))


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _trials(study: StudyRecord) -> Table:
    ranked = ranking(study.search)[:MOST_ROWS]
    rows = [_trial(place, record, study) for place, record in enumerate(ranked, start=1)]
    heads = ("rank", "trial", "imbalance", "worst", "mean", "util", "help", "hurt", "settings", "feasible")
    caption = (
        "Completed trials on the validation rows, feasible ones first. help x hurt: the imbalance fell because the "
        "worst category got better x because the best got worse."
    )
    return Table(caption, heads, rows, words=(1, 8, 9))


def _trial(place: int, record: TrialRecord, study: StudyRecord) -> list[Cell | str | None]:
    metrics = record.metrics
    assert metrics is not None
    gain = levelling(metrics, study.baseline.metrics) if study.baseline and study.baseline.metrics else None
    helped, hurt = (10**gain.worst_helped, 10**gain.best_hurt) if gain else (math.nan, math.nan)
    return [
        Cell(str(place), place),
        spoken(record.arm),
        Cell(f"{metrics.imbalance:.2f}x", metrics.imbalance),
        Cell(f"{metrics.fvu_worst:.3f}", metrics.fvu_worst),
        Cell(f"{metrics.fvu_mean:.3f}", metrics.fvu_mean),
        Cell(f"{metrics.utilization:.1%}", metrics.utilization),
        Cell(f"{helped:.2f}", helped) if gain else None,
        Cell(f"{hurt:.2f}", hurt) if gain else None,
        study.settings.in_words(record),
        "yes" if record.feasible else f"breaks {record.broken_guards}" if record.broken_guards else record.kind,
    ]


def _learned(study: StudyRecord) -> Section:
    texts = []
    rows = [row for row in by_strategy(study.search, study.settings) if row.strategy]
    found = [row for row in rows if row.best is not None]
    if found and found[0].best is not None and found[0].best.metrics is not None:
        first, scores = found[0], found[0].best.metrics
        texts.append(f"The lowest imbalance that keeps the guards came from {first.strategy}: {scores.imbalance:.2f}x.")
        if len(rows) > 1:
            texts[-1] += (
                " A sampler gives most trials to whatever did well early, so these counts do not rank the strategies; "
                "a tournament does."
            )
    try:
        shares = study_importances(study).get("imbalance", {})
    except SpinlockError as error:
        shares = {}
        texts.append(f"What mattered cannot be told: {error}.")
    if shares:
        told = ", ".join(f"{name} ({share:.0%})" for name, share in list(shares.items())[:3])
        texts.append(f"What the imbalance of the completed trials depends on most: {told}.")
    elif study.search:
        texts.append("Too few trials were completed, or all scored alike: which settings mattered cannot be said.")
    table = Table(
        "Trials by strategy",
        ("strategy", "trials", "completed", "feasible", "best imbalance", "its worst FVU", "median imbalance"),
        [
            [
                row.strategy,
                Cell(str(row.trials), row.trials),
                Cell(str(row.complete), row.complete),
                Cell(str(row.feasible), row.feasible),
                *_best_cells(row.best),
                Cell(f"{row.median_imbalance:.2f}x", row.median_imbalance) if row.median_imbalance else None,
            ]
            for row in rows
        ],
        words=(0,),
    )
    plots = ("strategies", "importance", "history", "pareto", "curves", "slices", "contour", "parallel")
    tables = [table, *([_standings(study)] if study.standings else [])]
    return Section(id="learned", title="What did the search learn?", texts=texts, tables=tables, plots=plots)


def _best_cells(best: TrialRecord | None) -> list[Cell | str | None]:
    if best is None or best.metrics is None:
        return [None, None]
    imbalance, worst = best.metrics.imbalance, best.metrics.fvu_worst
    return [Cell(f"{imbalance:.2f}x", imbalance), Cell(f"{worst:.3f}", worst)]


def _standings(study: StudyRecord) -> Table:
    rows: list[list[Cell | str | None]] = [
        [
            row["arm"],
            "-".join(map(str, dict.fromkeys(row["ranks"]))) if row["ranks"] else None,
            *(
                Cell(
                    f"{row[name]['ratio']:.2f} ({row[name]['low']:.2f} to {row[name]['high']:.2f})", row[name]["ratio"]
                )
                if row[name]
                else None
                for name in ("imbalance", "worst", "mean")
            ),
            row["verdict"] or "no trial",
        ]
        for row in study.standings
    ]
    heads = ("strategy", "rank", "imbalance / baseline", "worst / baseline", "mean / baseline", "verdict")
    return Table("The tournament: as many trials for each, test rows of the replicates", heads, rows, words=(0, 5))


def _limit(study: StudyRecord) -> Section:
    best, texts = study.best or study.baseline, []
    if best is not None and best.metrics is not None:
        metrics = best.metrics
        who = "The uniform baseline" if best.phase == "baseline" else spoken(best.arm).capitalize()
        texts.append(
            f"{who} leaves {metrics.reference_distance:.2f} times the error of the Gaussian reference at its bits "
            f"(geometric mean over categories), and its allocation leads one to expect an imbalance of "
            f"{metrics.reference_imbalance:.2f}x; measured: {metrics.imbalance:.2f}x. On so many rows equally good "
            f"categories would show {metrics.imbalance_by_chance:.2f}x by chance."
        )
        texts += _reachable(study, best)
    texts.append(
        "The reference is what a Gaussian with the same correlations allows over long blocks; real one-shot quantizers "
        "lie 1.2 (wide categories) to 2 times (5 features) above it, and other distributions on either side."
    )
    return Section(
        id="limit",
        title="How far from the rate-distortion limit?",
        texts=texts,
        plots=("rate_distortion", "codebooks"),
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
    return [
        f"At these bits, with codebooks of at most what {rows} rows can teach, the reference allows {reachable:.2f}x."
    ]


def _hypotheses(study: StudyRecord) -> Section:
    found = hypotheses(study)
    rows: list[list[Cell | str | None]] = [[each.name, each.word, each.why] for each in found]
    texts = [] if found else ["Nothing can be said before the uniform baseline is trained."]
    if (spreads := _spreads(study)) is not None:
        texts.append(spreads)
    table = Table("Suspected causes of the imbalance", ("cause", "this study", "why"), rows, words=(0, 1, 2))
    return Section(
        id="suspects",
        title="Which of the four suspected causes?",
        texts=texts,
        tables=[table],
        plots=("raw_decomposition",),
    )


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
    return f"What the ratios of the best trial came to: {ranges}; {spread(ratios):.2g}x apart on average."


def _course(study: StudyRecord) -> Section:
    texts = [outcomes_in_words(study.search)] if study.search else []
    if study.running:
        waiting = ", ".join(arm.replace("-", " ") for arm in study.running[:12])
        texts.append(f"Without an outcome so far: {waiting}{' and more' if len(study.running) > 12 else ''}.")
    return Section(
        id="course",
        title="How did it go?",
        texts=texts,
        tables=[_failures(study.search), _versions(study)],
        plots=("timeline",),
    )


def _failures(search: Sequence[TrialRecord]) -> Table:
    rows: list[list[Cell | str | None]] = [
        [spoken(each.arm), each.state, each.kind, Cell(str(len(each.attempts)), len(each.attempts)), each.reason]
        for each in search
        if each.state not in ("complete", "pruned") or each.kind
    ]
    heads = ("trial", "state", "kind", "attempts", "reason")
    return Table("Trials that diverged, were refused, failed or collapsed", heads, rows[:MOST_ROWS], words=(0, 1, 2, 4))


def _versions(study: StudyRecord) -> Table:
    known = {**study.description.get("versions", {}), **study.description.get("hardware", {})}
    known |= {"commit": study.description.get("git_commit"), "data": study.fingerprint[:16]}
    rows: list[list[Cell | str | None]] = [[name, _plain(value)] for name, value in known.items()]
    return Table("With what", ("what", "version or size"), rows, words=(0, 1))
