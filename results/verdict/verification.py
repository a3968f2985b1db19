"""Whether the exported config gives again what it was chosen for: under its own seed exactly, under others about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from results.records.trial_record import BASELINE, TrialRecord
from results.verdict.paired_tests import LEVEL

REPEATED = 1e-4
"""Relative difference up to which two imbalances are the same number."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What training the exported config again on the study's own split gave; imbalances on the validation rows."""

    imbalance: float
    """Of the trial, when it was chosen."""
    again: float | None
    """Under the trial's own seed; None if it did not complete."""
    other_seeds: tuple[float, ...]
    spread: tuple[float, float] | None
    """Where another seed's imbalance is to be expected, with probability 0.95; None with too few trainings to tell."""
    test: tuple[float, float] | None
    """Under the trial's own seed, of the config and of the baseline, on the study's own test rows."""

    @property
    def repeated(self) -> bool:
        """Whether the trial's own seed gave its number again."""
        return self.again is not None and math.isclose(self.again, self.imbalance, rel_tol=REPEATED)

    @property
    def typical(self) -> bool:
        """Whether its number is one that other seeds give as well."""
        return self.spread is not None and self.spread[0] <= self.imbalance <= self.spread[1]

    @property
    def verified(self) -> bool:
        """Whether the export may be taken for what it claims."""
        return self.repeated and self.typical

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = {"verified": self.verified, "repeated": self.repeated, "typical": self.typical}
        return found | asdict(self) | {"sentence": str(self)}

    def __str__(self) -> str:
        again = "not at all" if self.again is None else f"with {self.again:.2f}x"
        own = f"exactly its {self.imbalance:.2f}x" if self.repeated else f"not its {self.imbalance:.2f}x but {again}"
        others = " and ".join(f"{value:.2f}x" for value in self.other_seeds) or "nothing"
        if self.spread is None:
            place = "too few to tell whether that is typical"
        else:
            place = (
                f"its number is {'' if self.typical else 'not '}within their spread, "
                f"{self.spread[0]:.2f}x to {self.spread[1]:.2f}x"
            )
        text = f"Trained again it scores {own}; other seeds give {others}: {place}."
        if self.test is not None:
            text += f" On the study's own test rows it has {self.test[0]:.2f}x, the baseline {self.test[1]:.2f}x."
        return text if self.verified else f"Not verified. {text}"


def verify(best: TrialRecord, baseline: Sequence[TrialRecord], again: Sequence[TrialRecord]) -> Verification:
    """Hold `again`, trainings of the config of `best` (number 0 with its seed) and of the baseline, against the trial.

    The spread is the 95 % prediction interval for a further seed: mean of the other seeds' log imbalance ± t s
    sqrt(1 + 1/n), its variance pooled with that of the study's baseline seeds, which have means of their own.
    """
    assert best.metrics is not None
    ours = {record.number: record for record in again if record.arm == best.arm}
    theirs = next((record for record in again if record.arm == BASELINE), None)
    others = [record.metrics.imbalance for number, record in sorted(ours.items()) if number > 0 and record.metrics]
    pooled = [record.metrics.imbalance for record in baseline if record.metrics]
    first = ours.get(0)
    test = None
    if first is not None and first.test is not None and theirs is not None and theirs.test is not None:
        test = (first.test.imbalance, theirs.test.imbalance)
    return Verification(
        imbalance=best.metrics.imbalance,
        again=first.metrics.imbalance if first is not None and first.metrics is not None else None,
        other_seeds=tuple(others),
        spread=_spread(others, pooled),
        test=test,
    )


def _spread(others: Sequence[float], baseline: Sequence[float]) -> tuple[float, float] | None:
    groups = [np.log(values) for values in (others, baseline) if values]
    freedom = sum(len(group) - 1 for group in groups)
    if not others or freedom == 0:
        return None
    sd = math.sqrt(sum(((group - group.mean()) ** 2).sum() for group in groups) / freedom)
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * sd * math.sqrt(1 + 1 / len(others))
    middle = float(np.mean(np.log(others)))
    return math.exp(middle - half), math.exp(middle + half)
