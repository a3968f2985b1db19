"""What was found about the finalists of a study, as verdict.json holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from results.records.effect import Effect
from results.records.trial_record import Word
from results.verdict.contrasts import LEVEL

WORDS: tuple[Word, ...] = get_args(Word)
"""From best to worst."""

Effects = dict[str, Effect]
"""By the names of `results.verdict.contrasts.FIGURES`."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found about one finalist, at the look that decided or at the last one so far."""

    arm: str
    verdict: Word
    decided: bool
    """Whether further replicates could not, or need not, change the word."""
    replicates: int
    control: str
    """The arm of its matched control: `baseline`, its own if its ratios are uniform, or that of trainings apart."""
    effects: Effects
    """Relative to the baseline; empty below two common replicates."""
    against_control: Effects
    """Relative to its control; those of `effects` where that is the baseline, and empty where it is itself."""
    failed: str
    """How a replicate failed, if one did."""
    ranks: tuple[int, int]
    """First and last rank that it could have among the finalists by imbalance: ranks are claimed no further."""
    why: str = ""
    """The verdict in sentences, with the figures it rests on."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found about all finalists, in the order of the terms."""

    findings: tuple[Finding, ...]
    confidence: float = 1 - LEVEL
    """Of each interval."""
    limits: dict[str, float] = field(default_factory=dict)
    """Ratios up to which an error counted as kept."""

    @property
    def in_order(self) -> list[Finding]:
        """The finalists by word, then by the ratio of the worst category's error, then in the order of the terms."""
        return sorted(self.findings, key=lambda each: (WORDS.index(each.verdict), _worst(each)))

    @property
    def choice(self) -> Finding | None:
        """The finalist to export: the best of those with the best word."""
        return next(iter(self.in_order), None)

    def to_json(self) -> dict[str, Any]:
        """The content of verdict.json."""
        return {"level": LEVEL, **asdict(self)}


def _worst(finding: Finding) -> float:
    return finding.effects["fvu_worst"].ratio if finding.effects else float("inf")
