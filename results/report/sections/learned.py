"""What did the search learn?"""

from __future__ import annotations

from results.analysis.importance import study_importances
from results.analysis.strategies import by_strategy
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from results.report.sections.parts import Cell, Section, Table
from spinlock_dist.errors import SpinlockError


def section(study: StudyRecord) -> Section:
    """What each strategy reached, and which settings mattered."""
    texts = []
    rows = [row for row in by_strategy(study.search, study.settings) if row.strategy]
    found = [row for row in rows if row.best is not None]
    if found and found[0].best is not None and found[0].best.metrics is not None:
        first, least = found[0], found[0].best.metrics.estimate("imbalance")
        texts.append(f"Of the feasible trials, the lowest imbalance came from {first.strategy}: {least:.2f}x.")
        if len(rows) > 1:
            texts[-1] += (
                " A sampler gives most trials to whatever did well early, so these counts do not rank the strategies; "
                "a tournament does."
            )
    try:
        shares = study_importances(study).get("imbalance", {})
    except SpinlockError as error:
        shares = {}
        texts.append(f"Which settings mattered cannot be computed: {error}.")
    if shares:
        told = ", ".join(f"{name} ({share:.0%})" for name, share in list(shares.items())[:3])
        texts.append(
            f"The imbalance of the completed trials depends most on {told}. Settings that nothing read in some of "
            "them have no share: to those trials they made no difference."
        )
    elif study.search:
        texts.append("Too few trials completed, or all scored alike, to tell which settings mattered.")
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
    tables = [table, *([_standings(study)] if study.standings else [])]
    return Section(title="What did the search learn?", texts=texts, tables=tables)


def _best_cells(best: TrialRecord | None) -> list[Cell | str | None]:
    if best is None or best.metrics is None:
        return [None, None]
    imbalance, worst = best.metrics.estimate("imbalance"), best.metrics.estimate("fvu_worst")
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
    return Table(
        "The tournament: equally many trials for each strategy, scored on the test rows",
        heads,
        rows,
        words=(0, 5),
    )
