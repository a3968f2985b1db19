"""A paired effect as verdict.json and tournament.json hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A paired effect as a ratio: the geometric mean over pairs, its interval, the evidence for either side of 1."""

    pairs: int
    ratio: float
    low: float
    high: float
    confidence: float
    """Of the interval from `low` to `high`."""
    p_lower: float
    """One-sided: of so low a mean if the ratio were 1."""
    p_higher: float
    lower_in: int
    """Pairs with a ratio below 1."""
    method: Literal["t", "BCa", "constant"]
    """`t`: Student's t on the logarithms. `BCa`: bias-corrected and accelerated bootstrap (Efron 1987), and sign flips.
    `constant`: all pairs agree."""

    def __str__(self) -> str:
        return f"{self.ratio:.3g} ({self.low:.3g} to {self.high:.3g})"


def stored_effects(verdict: Mapping[str, Any] | None) -> dict[str, dict[str, Effect]]:
    """The effects in verdict.json by finalist and figure; none without one. Raises `TypeError` if damaged."""
    findings = verdict.get("findings", []) if verdict else []
    return {each["arm"]: {name: Effect(**effect) for name, effect in each["effects"].items()} for each in findings}
