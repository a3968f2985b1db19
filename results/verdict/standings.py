"""A tournament of strategies: what each found with the same number of trials, and how far they can be ranked.

Each arm is one search, over one strategy or over the whole space at random. What it found is judged like any finalist.
Ranks are claimed only as far as paired differences between arms show them. Each arm is represented by what one search
found: the luck of that search is not averaged out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from results.records.standing import Standing
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, best_record
from results.verdict.finding import WORDS, Verdict
from spinlock_dist.atomic_files import replacing, write_json


def standings(searches: Mapping[str, Sequence[TrialRecord]], verdict: Verdict) -> list[Standing]:
    """The arms by first rank, last rank and mean; those without a feasible trial come last."""
    findings = {finding.arm: finding for finding in verdict.findings}
    rows = []
    for arm, records in searches.items():
        best = best_record(records)
        finding = findings.get(best.arm) if best else None
        effects = finding.effects if finding else {}
        rows.append(
            Standing(
                arm=arm,
                trials=len(records),
                feasible=sum(record.feasible for record in records),
                best=best.number if best else None,
                validation=best.metrics.estimate("imbalance") if best and best.metrics else None,
                verdict=finding.verdict if finding else None,
                ranks=finding.ranks if finding else None,
                imbalance=effects.get("imbalance"),
                worst=effects.get("fvu_worst"),
                mean=effects.get("fvu_mean"),
            )
        )
    return sorted(rows, key=_merit)


def _merit(row: Standing) -> tuple[float, float, float]:
    last = float("inf")
    return (*(row.ranks or (last, last)), row.imbalance.ratio if row.imbalance else last)


def tournament_sentence(rows: Sequence[Standing]) -> str:
    """What the tournament shows, in a sentence or two."""
    named = {word: [row.arm for row in rows if row.verdict == word] for word in WORDS}
    first = [row.arm for row in rows if row.ranks is not None and row.ranks[0] == 1]
    better = ", ".join(named["better"]) or "no strategy"
    text = f"Shown to be better than uniform ratios: {better}."
    for word in ("more even, but worse", "worse"):
        if named[word]:
            text += f" Shown to be {word}: {', '.join(named[word])}."
    if len(first) == 1:
        return f"{text} First is {first[0]}, shown to be ahead of every other strategy with a feasible trial."
    return f"{text} Any of these could rank first: {', '.join(first)}." if first else text


def conclude_tournament(rows: Sequence[Standing], verdict: Verdict) -> str:
    """What the tournament shows, and the verdict on the exported config."""
    text = tournament_sentence(rows)
    return text if verdict.choice is None else f"{text} {verdict.choice.why}"


def write_standings(folder: StudyFolder, rows: Sequence[Standing]) -> None:
    """Write tournament.json, and tournament.parquet with effects as `<figure>.<ratio, low, high>`."""
    import pandas as pd  # whoever reads the standings need not wait for it

    write_json(folder.tournament, [asdict(row) for row in rows])
    with replacing(folder.tournament.with_suffix(".parquet")) as draft:
        pd.DataFrame([_flat(row) for row in rows]).to_parquet(draft, index=False)


def _flat(row: Standing) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(row).items() if not isinstance(value, dict | tuple)}
    plain |= {"rank_first": row.ranks[0], "rank_last": row.ranks[1]} if row.ranks else {}
    for name in ("imbalance", "worst", "mean"):
        effect = getattr(row, name)
        plain.pop(name, None)
        for part in ("ratio", "low", "high"):
            plain[f"{name}.{part}"] = getattr(effect, part) if effect else None
    return plain
