"""How many times the reference's a figure is, with its interval, as verdict.json and tournament.json hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A figure as a ratio to a reference's: the estimate and its interval."""

    ratio: float
    low: float
    high: float
    confidence: float
    """Of the interval from `low` to `high`."""
    replicates: int
    """Trainings of either arm that it rests on."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Effect:
        """The effect stored as `content`; one of an earlier version calls replicates `pairs` and has p-values.

        Raises `KeyError` or `TypeError` if it is damaged.
        """
        given: dict[str, Any] = {"replicates": content.get("pairs"), **content}
        return cls(**{field.name: given[field.name] for field in fields(cls)})

    def __str__(self) -> str:
        return f"{factor(self.ratio)} ({factor(self.low)} to {factor(self.high)})"


def factor(value: float) -> str:
    """A ratio in two decimals, a small one in two digits: rounded to 0.00 it would tell nothing."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def stored_effects(verdict: Mapping[str, Any] | None) -> dict[str, dict[str, Effect]]:
    """The effects in verdict.json by finalist and figure; none without one. Raises as `Effect.from_json` does."""
    findings = verdict.get("findings", []) if verdict else []
    return {
        each["arm"]: {name: Effect.from_json(effect) for name, effect in each["effects"].items()} for each in findings
    }
