"""The trials of a study in order of merit, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from results.levelling import levelling
from results.trial_record import TrialRecord
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.metrics.record import Metrics

COLUMNS = ("trial", "imbalance", "worst", "mean", "util", "help", "hurt", "settings")


def ranking(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the completed trials, feasible before infeasible, each by imbalance."""
    completed = [record for record in records if record.state == "complete" and record.metrics is not None]
    return sorted(completed, key=lambda record: (not record.feasible, _score(record).log10_imbalance, record.number))


def leaderboard(
    baseline: TrialRecord, search: Sequence[TrialRecord], rows: int = 8, front: Sequence[TrialRecord] = ()
) -> Table:
    """Return `front`, and then the first `rows` of the ranking, below the baseline's first training.

    On the validation rows. help and hurt: factors by which the imbalance fell because the worst category got better,
    and because the best got worse (levelling down).
    """
    table = Table(title="validation rows", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.caption = "help x hurt: the imbalance fell as the worst got better x as the best got worse"
    table.caption_justify = "left"
    for column in COLUMNS:
        table.add_column(
            column, justify="left" if column in ("trial", "settings") else "right", no_wrap=column != "settings"
        )
    table.add_row("baseline", *_figures(_score(baseline)), "", "", "uniform")
    if front:
        table.caption += "\n*: the front, which no feasible trial beats in imbalance, mean and util at once"
    others = [record for record in ranking(search) if record not in front]
    for record in [*front, *others[: max(0, rows - len(front))]]:
        gain = levelling(_score(record), _score(baseline))
        factors = (f"{10**gain.worst_helped:.2f}", f"{10**gain.best_hurt:.2f}")
        words = settings(record) + ("" if record.feasible else f"\nbreaks {broken_guards(record)}")
        style = "" if record.feasible else "dim"
        mark = "*" if record in front else ""
        table.add_row(f"{record.number}{mark}", *_figures(_score(record)), *factors, words, style=style)
    return table


def settings(record: TrialRecord) -> str:
    """Return the choices of a trial in a few words, e.g. `balanced graded codes`; no rule where a strategy has none."""
    strategy = STRATEGIES.get(record.params.get("compression.strategy", ""))
    idle = {"compression.rule"} if strategy and not strategy.has_rule else set()
    return " ".join(value for name, value in record.params.items() if isinstance(value, str) and name not in idle)


def broken_guards(record: TrialRecord) -> str:
    """Return the names of the guards that a trial oversteps, empty if it keeps them all."""
    return ", ".join(name for name, value in record.guards.items() if value > 0)


def _figures(metrics: Metrics) -> tuple[str, ...]:
    return (
        f"{metrics.imbalance:.2f}x",
        f"{metrics.fvu_worst:.3f}",
        f"{metrics.fvu_mean:.3f}",
        f"{metrics.utilization:.0%}",
    )


def _score(record: TrialRecord) -> Metrics:
    assert record.metrics is not None
    return record.metrics
