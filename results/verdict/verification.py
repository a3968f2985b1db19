"""Whether the exported config reproduces its score with its own seed, and whether other seeds score alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from results.records.trial_record import TrialRecord
from results.verdict.contrasts import LEVEL

REPEATED = 1e-4
"""Largest relative difference between two imbalances that count as the same."""
WIDEST = 2.0
"""High / low of a prediction interval beyond which it rejects next to nothing, and so tells nothing."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What retraining the exported config as the search did gave; imbalances are on the validation rows."""

    imbalance: float
    """Of the trial as it was chosen."""
    again: float | None
    """With the trial's own seed; None if that did not complete."""
    other_seeds: tuple[float, ...]
    spread: tuple[float, float] | None
    """95% prediction interval for the imbalance of a further seed; None where there are not enough seeds to tell."""

    @property
    def repeated(self) -> bool:
        """Whether the trial's own seed reproduced its score."""
        return self.again is not None and math.isclose(self.again, self.imbalance, rel_tol=REPEATED)

    @property
    def typical(self) -> bool | None:
        """Whether its score is one that other seeds give as well; None where there are not enough seeds to tell."""
        return None if self.spread is None else self.spread[0] <= self.imbalance <= self.spread[1]

    @property
    def verified(self) -> bool:
        """Whether the exported config gives its score again, and other seeds do not show that to be luck."""
        return self.repeated and self.typical is not False

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        found = {"verified": self.verified, "repeated": self.repeated, "typical": self.typical}
        return found | asdict(self) | {"sentence": str(self)}

    def __str__(self) -> str:
        if self.repeated:
            own = f"reproduces its {self.imbalance:.2f}x"
        elif self.again is None:
            own = "did not complete"
        else:
            own = f"gives {self.again:.2f}x instead of its {self.imbalance:.2f}x"
        others = " and ".join(f"{value:.2f}x" for value in self.other_seeds) or "no score"
        if self.spread is None:
            place = "not enough seeds to tell whether its score is typical"
        else:
            word = "within" if self.typical else "outside"
            place = f"its score is {word} the range expected of a seed, {self.spread[0]:.2f}x to {self.spread[1]:.2f}x"
        text = f"Retraining the exported config with its own seed {own}; other seeds give {others}: {place}."
        return text if self.verified else f"Not verified. {text}"


def verify(best: TrialRecord, again: Sequence[TrialRecord]) -> Verification:
    """Compare the trial with `again`: retrainings of its config, number 0 with its own seed."""
    assert best.metrics is not None
    ours = {record.number: record for record in again if record.arm == best.arm}
    others = [
        record.metrics.estimate("imbalance") for number, record in sorted(ours.items()) if number > 0 and record.metrics
    ]
    first = ours.get(0)
    return Verification(
        imbalance=best.metrics.estimate("imbalance"),
        again=first.metrics.estimate("imbalance") if first is not None and first.metrics is not None else None,
        other_seeds=tuple(others),
        spread=_spread(others),
    )


def _spread(others: Sequence[float]) -> tuple[float, float] | None:
    """The 95% prediction interval for the imbalance of a further seed, None if it would be too wide to tell anything.

    On the logarithm: mean of the n other seeds ± t s sqrt(1 + 1/n). The 1 is the spread of the further seed itself, the
    1/n that of the mean. Two seeds say little about s, hence the wide t. Seeds of the baseline would say more, but of
    another s: where one category is clearly the worst and one the best, seeds move the ratio least. The trial's own
    seed is left out: it was selected for being low.
    """
    if len(others) < 2:
        return None
    logs = np.log(others)
    half = float(stats.t.ppf(1 - LEVEL / 2, len(logs) - 1) * logs.std(ddof=1)) * math.sqrt(1 + 1 / len(logs))
    if 2 * half > math.log(WIDEST):
        return None
    middle = float(logs.mean())
    return math.exp(middle - half), math.exp(middle + half)
