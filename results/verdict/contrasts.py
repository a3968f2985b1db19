"""One arm against another over replicates: by what factor a figure differs, and how far that can be trusted.

Legend: R replicates (a training seed and training rows that both arms share), B resamples of the test rows, which are
the same for all replicates and arms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from results.records.effect import Effect
from spinlock_dist.metrics.record import Metrics

LEVEL = 0.05
"""Largest share of studies that claim a difference where there is none."""

FIGURES = ("imbalance", "fvu_worst", "fvu_mean")
"""What a verdict rests on, as `Metrics` names it."""

K = TypeVar("K")


@dataclass(frozen=True)
class Contrast:
    """A log ratio of two arms' figures, its standard error and the degrees of freedom of that."""

    log_ratio: float
    error: float
    freedom: float
    replicates: int

    def effect(self, confidence: float) -> Effect:
        """The ratio with its t interval."""
        from scipy import stats  # takes a second, which whoever reads stored effects need not wait

        half = float(stats.t.ppf((1 + confidence) / 2, self.freedom)) * self.error
        low, ratio, high = (math.exp(self.log_ratio + side * half) for side in (-1, 0, 1))
        return Effect(ratio=ratio, low=low, high=high, confidence=confidence, replicates=self.replicates)

    @property
    def p(self) -> float:
        """Two-sided, of a ratio of 1."""
        from scipy import stats

        if self.error == 0:
            return float(self.log_ratio == 0)
        return 2 * float(stats.t.sf(abs(self.log_ratio) / self.error, self.freedom))


def contrast(
    ours: Mapping[int, Metrics], theirs: Mapping[int, Metrics], figure: str, overlap: float
) -> Contrast | None:
    """One arm's figure over another's, from test metrics by replicate; None below two common replicates.

    Both arms are scored on the same rows, so that what makes rows easy or hard cancels in the difference of logs, and
    so does most of the bias that noise gives an extreme. What is left is taken off as the bootstrap sees it: by how far
    the mean of the resampled differences lies beyond the measured one (Efron & Tibshirani 1993, chapter 10). The
    cross-fitted figures of `Metrics.estimates` are too low where categories are nearly equal, which in a ratio would
    overstate the gain of the more even arm: by 5% of the imbalance where this is 1% off (benchmarks/verdict.py's rows).

    Three things make the mean over R replicates differ from what other data would give:

    - The test rows. They are the same for all replicates, so no number of these averages them out. Resampling the rows,
      in both arms and all replicates alike, shows the variance.
    - Seeds. Each replicate has its own: s^2 / R, with s^2 the variance between replicates. No test row is in it, as all
      replicates have the same.
    - Training rows. Replicates train on rows that overlap, so their log ratios are correlated: s^2 shows only where
      they differ. With a correlation of rho the variance of the mean is s^2 (1/R + rho / (1 - rho)); Nadeau and Bengio
      (2003) take rho = test / (test + train), which makes the second term `overlap` = test rows / training rows.

    The sum is that of two independent estimates of variance; its degrees of freedom are Satterthwaite's (1946). Those
    of the first are the resamples'.
    """
    common = sorted(ours.keys() & theirs.keys())
    if len(common) < 2:
        return None
    measured_R = np.array([_log(ours[each], figure) - _log(theirs[each], figure) for each in common])
    resampled_RB = np.array([_resampled(ours[each], theirs[each], figure) for each in common])
    rows = seeds = 0.0
    ratio_R = measured_R
    if resampled_RB.size:
        ratio_R = 2 * measured_R - resampled_RB.mean(axis=1)
        rows = float(resampled_RB.mean(axis=0).var(ddof=1))
    seeds = float(ratio_R.var(ddof=1)) * (1 / len(common) + overlap)
    parts = rows**2 / max(1, resampled_RB.shape[1] - 1) + seeds**2 / (len(common) - 1)
    freedom = (rows + seeds) ** 2 / parts if parts > 0 else len(common) - 1.0
    return Contrast(float(ratio_R.mean()), math.sqrt(rows + seeds), freedom, len(common))


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """p-values corrected for their number (Holm 1979): rejecting all that are <= a errs anywhere in at most a of cases.

    In ascending order the i-th of m is multiplied by m - i + 1. The smallest pays for all m, as in Bonferroni; once it
    is rejected, only m - 1 hypotheses can still be true, so the next pays for m - 1. Nothing may be rejected after the
    first that is not, hence the running maximum. E.g. 0.01, 0.02, 0.03 become 0.03, 0.04, 0.04.
    """
    corrected: dict[K, float] = {}
    floor = 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):
        floor = max(floor, min(1.0, p[key] * (len(p) - rank)))
        corrected[key] = floor
    return corrected


def rank_ranges(
    arms: Mapping[K, Mapping[int, Metrics]], overlap: float, level: float = LEVEL
) -> dict[K, tuple[int, int]]:
    """The first and last rank that each arm could have by imbalance, lowest first, from test metrics by replicate.

    One arm is shown to be ahead of another if their contrast says so, two-sided, with Holm's correction over all pairs
    of arms. Of m arms, one with a arms shown ahead of it and b shown behind it has a rank from 1 + a to m - b. E.g. if
    A and B are both ahead of C but not told apart, A and B have ranks 1-2 and C has 3-3. With fewer than two common
    replicates nothing is shown, and every range is 1 to m.
    """
    found = {
        (one, other): contrast(arms[one], arms[other], "imbalance", overlap) for one, other in combinations(arms, 2)
    }
    told = {pair: each for pair, each in found.items() if each is not None}
    corrected = holm({pair: each.p for pair, each in told.items()})
    shown = [pair if told[pair].log_ratio < 0 else pair[::-1] for pair, p in corrected.items() if p <= level]
    return {
        arm: (1 + sum(last == arm for _, last in shown), len(arms) - sum(first == arm for first, _ in shown))
        for arm in arms
    }


def _log(metrics: Metrics, figure: str) -> float:
    return math.log(max(getattr(metrics, figure), 1e-12))


def _resampled(ours: Metrics, theirs: Metrics, figure: str) -> np.ndarray:
    """`[B]`, empty for records of an earlier version."""
    pair = [np.array(each.resampled.get(figure, ())) for each in (ours, theirs)]
    return pair[0] - pair[1] if len(pair[0]) == len(pair[1]) else np.empty(0)
