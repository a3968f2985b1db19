"""Tables of a study for a terminal: its leaderboard, and the standings of a tournament."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from results.analysis.hypotheses import hypotheses
from results.records.effect import Effect, factor
from results.records.settings import TrialSettings
from results.records.stage import outcome_in_words
from results.records.standing import Standing
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord, arm_of, ranking
from spinlock_dist.fitted_table import Column, FittedTable
from spinlock_dist.metrics.record import Metrics

CARRIED = "car-\nried"
COLUMNS = (
    Column("rank"),
    Column("trial", left=True),
    Column("imbalance"),
    Column("worst", place=2),
    Column("mean", place=3),
    Column("util", place=4),
    Column(CARRIED, place=5),
    Column("settings", place=1, left=True, wraps=14, eases=24),
)
STANDINGS = (
    Column("rank"),
    Column("strategy", left=True),
    Column("imbalance"),
    Column("worst", place=2),
    Column("mean", place=4),
    Column("kept", place=3),
    Column("verdict", place=1, left=True),
)


def leaderboard(
    baseline: TrialRecord,
    search: Sequence[TrialRecord],
    settings: TrialSettings,
    rows: int = 8,
    front: Sequence[TrialRecord] = (),
    replicated: Mapping[str, Mapping[str, Effect]] | None = None,
) -> FittedTable:
    """The baseline's first training, then the Pareto front `front`, then the ranking, `rows` trials in all.

    Scores are on the validation rows; `replicated` holds, by arm and figure, ratios to the baseline's on the test rows.
    Only feasible trials have a rank; the others stand below them. Beside its strategy stands what a trial has set
    differently from others in the table.
    """
    ranked = ranking(search)
    places = {id(record): str(place) for place, record in enumerate(ranked, start=1) if record.feasible}
    rest = [record for record in ranked if record not in front]
    shown = [*front, *rest[: max(0, rows - len(front))]]
    told = settings.apart([baseline, *shown])
    ranks = "no rank: not feasible" if any(not each.feasible for each in shown) else ""
    caption = partial(_caption, front=front, replicated=replicated, ranks=ranks)
    table = FittedTable(COLUMNS, "validation rows", caption)
    table.add_row("", "baseline", *_figures(_score(baseline)), told[0], last=True)
    for place, (record, words) in enumerate(zip(shown, told[1:], strict=True)):
        effects = (replicated or {}).get(record.arm)
        lines = [words, *(_on_test_rows(effects) if effects else [])]
        lines += [] if record.feasible else [outcome_in_words(record)]
        trial = f"{arm_of(record.arm)} {record.number}".strip() + ("*" if record in front else "")
        after = shown[place + 1 : place + 2]
        table.add_row(
            places.get(id(record), ""),
            trial,
            *_figures(_score(record)),
            "\n".join(filter(None, lines)),
            style="" if record.feasible else "dim",
            last=record.feasible and any(not each.feasible for each in after),
        )
    return table


def _on_test_rows(effects: Mapping[str, Effect]) -> list[str]:
    """The ratios of imbalance, worst category and mean, a line each."""
    names = {"imbalance": "", "fvu_worst": "worst ", "fvu_mean": "mean "}
    told = {words: effects[name] for name, words in names.items() if name in effects}
    return [f"{words}x{factor(each.ratio)} ({factor(each.low)}-{factor(each.high)})" for words, each in told.items()]


def _caption(
    names: Sequence[str],
    front: Sequence[TrialRecord],
    replicated: Mapping[str, Mapping[str, Effect]] | None,
    ranks: str,
) -> str:
    """What the signs in the columns `names` mean."""
    lines = ["±: half the interval over rows" + ("; carried: of the bits paid, by entropy" if CARRIED in names else "")]
    if "settings" not in names:
        lines.append("settings: in a wider terminal, or with --json")
    elif replicated:
        lines.append("x: imbalance, worst and mean / the baseline's on the test rows, with intervals")
    if front:
        lines.append("*: the Pareto front: no feasible trial beats these in imbalance, mean and util at once")
    return "\n".join(filter(None, [*lines, ranks]))


def _figures(metrics: Metrics) -> tuple[str, ...]:
    return (
        *(metrics.in_words(name) for name in ("imbalance", "fvu_worst", "fvu_mean")),
        f"{metrics.utilization:.0%}",
        "" if metrics.carried_share is None else f"{metrics.carried_share:.0%}",
    )


def _score(record: TrialRecord) -> Metrics:
    assert record.metrics is not None
    return record.metrics


def tournament_table(rows: Sequence[Standing]) -> FittedTable:
    """The standings for a terminal."""
    table = FittedTable(
        STANDINGS,
        "test rows: ratio to the baseline, interval",
        lambda _: "rank: first and last that the paired differences allow; kept: trials that kept every guard",
    )
    for row in rows:
        rank = "" if row.ranks is None else "-".join(map(str, dict.fromkeys(row.ranks)))
        mean = factor(row.mean.ratio) if row.mean else ""
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
    return "" if effect is None else f"{factor(effect.ratio)} {factor(effect.low)}-{factor(effect.high)}"
