"""Paired comparisons: how large an effect is, how sure that is, and what several comparisons at once may claim.

Legend: R pairs. A pair is a replicate in which two arms shared data, seed and batch order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, TypeVar

import numpy as np

from results.records.effect import Effect

LEVEL = 0.05
"""Largest share of studies without any difference in which one is claimed."""

FEW = 10
"""Below this many pairs resampling knows too little of the tails: Student's t instead of bootstrap and sign flips."""

RESAMPLES = 9_999
"""Of the bootstrap, and of the sign flips where all 2^R are more."""

K = TypeVar("K")


def paired_effect(ratios: Sequence[float], confidence: float = 1 - LEVEL) -> Effect | None:
    """Return the effect that `[R]` positive ratios show; None below two pairs, which show no spread."""
    from scipy import stats  # takes a second, which whoever reads stored effects need not wait

    x_R = np.log(np.asarray(ratios, dtype=np.float64))
    if len(x_R) < 2:
        return None
    method: Literal["t", "BCa", "constant"] = "t" if len(x_R) < FEW else "BCa"
    mean = float(x_R.mean())
    if np.ptp(x_R) <= 1e-9 * max(1.0, abs(mean)):
        method, low, high = "constant", mean, mean
        p_lower, p_higher = (1.0 if side * mean <= 0 else 2.0 ** -len(x_R) for side in (-1, 1))  # of all sign flips
    elif method == "t":
        test = stats.ttest_1samp(x_R, 0)
        low, high = test.confidence_interval(confidence)
        p_lower, p_higher = (float(stats.t.cdf(side * test.statistic, test.df)) for side in (1, -1))
    else:
        bootstrap = stats.bootstrap(
            (x_R,), np.mean, method="BCa", confidence_level=confidence, n_resamples=RESAMPLES, rng=0
        )
        low, high = bootstrap.confidence_interval
        p_lower, p_higher = (_sign_flip_p(x_R, side) for side in ("less", "greater"))
    return Effect(
        pairs=len(x_R),
        ratio=math.exp(mean),
        low=math.exp(low),
        high=math.exp(high),
        confidence=confidence,
        p_lower=p_lower,
        p_higher=p_higher,
        lower_in=int((x_R < 0).sum()),
        method=method,
    )


def _sign_flip_p(x_R: np.ndarray, side: str) -> float:
    """Return the one-sided p of mean 0, exact up to 13 pairs: if the arms were alike, both signs would be."""
    from scipy import stats

    test = stats.permutation_test(
        (x_R,), np.mean, permutation_type="samples", alternative=side, n_resamples=RESAMPLES, vectorized=True, rng=0
    )
    return float(test.pvalue)


def widened_interval(
    ratios: Sequence[float], overlap: float, confidence: float = 1 - LEVEL
) -> tuple[float, float] | None:
    """Return the interval that `[R]` ratios give for new data, where they are of splits of the same rows.

    Such splits overlap, so that their mean varies by more than s / sqrt(R): by s sqrt(1/R + overlap), with `overlap`
    test rows / training rows (Nadeau & Bengio 2003, the corrected resampled t). However many the splits, it does not
    shrink to a point: only more rows can do that. None below two pairs.
    """
    from scipy import stats

    x_R = np.log(np.asarray(ratios, dtype=np.float64))
    if len(x_R) < 2:
        return None
    t = float(stats.t.ppf((1 + confidence) / 2, len(x_R) - 1))
    half = t * float(x_R.std(ddof=1)) * math.sqrt(1 / len(x_R) + overlap)
    return math.exp(x_R.mean() - half), math.exp(x_R.mean() + half)


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """Return p corrected for their number (Holm 1979): rejecting those <= a errs at all in at most a of cases.

    In rising order, the i-th of m is multiplied by m - i + 1; none falls below the one before it.
    """
    corrected: dict[K, float] = {}
    floor = 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):
        floor = max(floor, min(1.0, p[key] * (len(p) - rank)))
        corrected[key] = floor
    return corrected


def rank_ranges(values: Mapping[K, Sequence[float]], level: float = LEVEL) -> dict[K, tuple[int, int]]:
    """Return the first and last rank that each arm could have, lowest value first, by `[R]` positive values an arm.

    An arm is before another if the mean log ratio of the two is shown to be below 0, by paired tests with Holm's
    correction over all pairs of arms; its first rank is 1 + the arms before it, its last the number of arms not after
    it. With fewer than two replicates nothing is shown.
    """
    two_sided, before = {}, {}
    for one, other in combinations(values, 2):
        effect = paired_effect(np.asarray(values[one]) / np.asarray(values[other]))
        if effect is not None:
            two_sided[one, other] = min(1.0, 2 * min(effect.p_lower, effect.p_higher))
            before[one, other] = effect.ratio < 1
    shown = [(pair if before[pair] else pair[::-1]) for pair, p in holm(two_sided).items() if p <= level]
    return {
        arm: (1 + sum(last == arm for _, last in shown), len(values) - sum(first == arm for first, _ in shown))
        for arm in values
    }
