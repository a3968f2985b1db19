"""One arm of a tournament as tournament.json holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from results.records.effect import Effect
from results.records.trial_record import Word


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One arm of a tournament."""

    arm: str
    trials: int
    """Trials of its search, however they ended."""
    feasible: int
    best: int | None
    """Number of its best feasible trial; None if there is none, and then nothing of what follows either."""
    validation: float | None
    """Imbalance of that trial on the study's validation rows."""
    verdict: Word | None
    ranks: tuple[int, int] | None
    """First and last rank the arm could have among those that were compared."""
    imbalance: Effect | None
    """Ratio to the baseline's, on the test rows."""
    worst: Effect | None
    """The same of the worst category's FVU."""
    mean: Effect | None
    """The same of the mean FVU."""


def standing_of(content: Mapping[str, Any]) -> Standing:
    """A standing from its entry in tournament.json. Raises `KeyError` or `TypeError` if that is damaged."""
    figures = ("imbalance", "worst", "mean")
    effects = {name: Effect.from_json(content[name]) for name in figures if content.get(name) is not None}
    ranks = content.get("ranks")
    return Standing(**{**content, **effects, "ranks": None if ranks is None else (ranks[0], ranks[1])})
