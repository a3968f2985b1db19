"""Tables of a study for a terminal: its leaderboard, and the standings of a tournament."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from results.analysis.hypotheses import hypotheses
from results.records.effect import Effect
from results.records.settings import TrialSettings
from results.records.standing import Standing
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord, arm_of, ranking
from spinlock_dist.metrics.record import Metrics


def leaderboard(
    baseline: TrialRecord,
    search: Sequence[TrialRecord],
    settings: TrialSettings,
    rows: int = 8,
    front: Sequence[TrialRecord] = (),
    replicated: Mapping[str, Mapping[str, Effect]] | None = None,
) -> Table:
    """The baseline's first training, then the Pareto front `front`, then the ranking, `rows` trials in all.

    Scores are on the validation rows; `replicated` holds, by arm and figure, ratios to the baseline's on the test rows.
    Only feasible trials have a rank.
    """
    table = Table(title="validation rows", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.caption = _caption(front, replicated)
    table.caption_justify = "left"
    for column in ("rank", "trial", "imbalance", "worst", "mean", "util", "car-\nried", "settings"):
        justify: Any = "left" if column in ("trial", "settings") else "right"
        table.add_column(column, justify=justify, no_wrap=column != "settings", overflow="fold")
    table.add_row("", "baseline", *_figures(_score(baseline)), "uniform")
    ranked = ranking(search)
    places = {id(record): str(place) for place, record in enumerate(ranked, start=1) if record.feasible}
    rest = [record for record in ranked if record not in front]
    for record in [*front, *rest[: max(0, rows - len(front))]]:
        lines = [settings.in_words(record)]
        if effects := (replicated or {}).get(record.arm):
            lines += _on_test_rows(effects)
        if not record.feasible:
            lines.append(f"breaks {record.broken_guards}" if record.broken_guards else record.kind)
        trial = f"{arm_of(record.arm)} {record.number}".strip() + ("*" if record in front else "")
        style = "" if record.feasible else "dim"
        place = places.get(id(record), "")
        table.add_row(place, trial, *_figures(_score(record)), "\n".join(filter(None, lines)), style=style)
    return table


def _on_test_rows(effects: Mapping[str, Effect]) -> list[str]:
    """The ratios of imbalance, worst category and mean, a line each."""
    names = {"imbalance": "", "fvu_worst": "worst ", "fvu_mean": "mean "}
    told = {words: effects[name] for name, words in names.items() if name in effects}
    return [f"{words}x{each.ratio:.2f} ({each.low:.2f}-{each.high:.2f})" for words, each in told.items()]


def _caption(front: Sequence[TrialRecord], replicated: Mapping[str, Mapping[str, Effect]] | None) -> str:
    lines = ["±: half the interval over rows; carried: of the bits paid, by entropy"]
    if replicated:
        lines.append("x: imbalance, worst and mean / the baseline's on the test rows, with intervals")
    if front:
        lines.append("*: the Pareto front: no feasible trial beats these in imbalance, mean and util at once")
    return "\n".join(lines)


def _figures(metrics: Metrics) -> tuple[str, ...]:
    return (
        *(metrics.in_words(name) for name in ("imbalance", "fvu_worst", "fvu_mean")),
        f"{metrics.utilization:.0%}",
        "" if metrics.carried_share is None else f"{metrics.carried_share:.0%}",
    )


def _score(record: TrialRecord) -> Metrics:
    assert record.metrics is not None
    return record.metrics


def tournament_table(rows: Sequence[Standing]) -> Table:
    """The standings for a terminal."""
    table = Table(
        title="test rows: ratio to the baseline, interval",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
    )
    table.caption = "rank: first and last that the paired differences allow; kept: trials that kept every guard"
    table.caption_justify = "left"
    for column in ("rank", "strategy", "imbalance", "worst", "mean", "kept", "verdict"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        rank = "" if row.ranks is None else "-".join(map(str, dict.fromkeys(row.ranks)))
        mean = f"{row.mean.ratio:.2f}" if row.mean else ""
        short = {"no difference shown": "not shown", "more even, but worse": "more even"}
        words = short.get(row.verdict or "", row.verdict or "no trial")
        kept = f"{row.feasible}/{row.trials}"
        table.add_row(rank, row.arm, _short(row.imbalance), _short(row.worst), mean, kept, words)
    return table


def causes_in_words(study: StudyRecord) -> str:
    """What the study says of each suspected cause, in a line; empty before there is a baseline."""
    told = "; ".join(f"{each.name}: {each.word}" for each in hypotheses(study))
    return f"Suspected causes of the imbalance: {told} (with figures in the report)." if told else ""


def _short(effect: Effect | None) -> str:
    return "" if effect is None else f"{effect.ratio:.2f} {effect.low:.2f}-{effect.high:.2f}"
