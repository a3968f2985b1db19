"""Paired comparisons: how large an effect is, how certain, and what several comparisons at once may claim.

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
"""Largest share of studies that claim a difference where there is none."""

FEW = 10
"""Below this many pairs resampling says too little about the tails; Student's t replaces bootstrap and sign flips."""

RESAMPLES = 9_999
"""Of the bootstrap, and of the sign flips where there are more than this."""

K = TypeVar("K")


def paired_effect(ratios: Sequence[float], confidence: float = 1 - LEVEL) -> Effect | None:
    """The effect that `[R]` positive ratios show; None below two pairs, which have no spread.

    Everything happens on logarithms, where 0.8 and 1.25 are equally far from 1 and a mean is a geometric one.
    """
    from scipy import stats  # takes a second, which whoever reads stored effects need not wait

    x_R = np.log(np.asarray(ratios, dtype=np.float64))
    if len(x_R) < 2:
        return None
    method: Literal["t", "BCa", "constant"] = "t" if len(x_R) < FEW else "BCa"
    mean = float(x_R.mean())
    if np.ptp(x_R) <= 1e-9 * max(1.0, abs(mean)):
        # Without spread t is infinite and its p is 0, which R pairs cannot support. Of the 2^R sign flips exactly one
        # has so extreme a mean, the one observed: p = 2^-R on the side it points to, 1 on the other.
        method, low, high = "constant", mean, mean
        p_lower, p_higher = (1.0 if side * mean <= 0 else 2.0 ** -len(x_R) for side in (-1, 1))
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
    """One-sided p of a mean of 0 by sign flips, exact up to 13 pairs.

    Within a pair the two arms share everything but the config. If the config made no difference, the labels of the two
    could be exchanged, which flips the sign of their log ratio. So each of the 2^R sign patterns is equally likely, and
    p is the share of them whose mean is at least as extreme as the one observed. 2^13 = 8,192 fit into `RESAMPLES`;
    beyond that as many random patterns stand for all, the observed one counted among them, so p is never 0.
    """
    from scipy import stats

    test = stats.permutation_test(
        (x_R,), np.mean, permutation_type="samples", alternative=side, n_resamples=RESAMPLES, vectorized=True, rng=0
    )
    return float(test.pvalue)


def widened_interval(
    ratios: Sequence[float], overlap: float, confidence: float = 1 - LEVEL
) -> tuple[float, float] | None:
    """The interval for new data that `[R]` ratios on splits of the same rows give; None below two pairs.

    Nadeau & Bengio 2003, the corrected resampled t. R independent replicates have a mean of variance s^2 / R. Splits of
    the same rows share most of their training rows, so their ratios are correlated, and with a correlation of rho the
    variance is s^2 (1/R + rho / (1 - rho)). Taking rho = test / (test + train) makes the second term test / train,
    which is `overlap`. With 15% of the rows for testing and 70% for training it is 0.21: however many splits there are,
    the interval does not shrink below that of about five independent replicates. Only more rows can narrow it.
    """
    from scipy import stats

    x_R = np.log(np.asarray(ratios, dtype=np.float64))
    if len(x_R) < 2:
        return None
    t = float(stats.t.ppf((1 + confidence) / 2, len(x_R) - 1))
    half = t * float(x_R.std(ddof=1)) * math.sqrt(1 / len(x_R) + overlap)
    return math.exp(x_R.mean() - half), math.exp(x_R.mean() + half)


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


def rank_ranges(values: Mapping[K, Sequence[float]], level: float = LEVEL) -> dict[K, tuple[int, int]]:
    """The first and last rank that each arm could have, lowest value first, from `[R]` positive values of each arm.

    One arm is shown to be ahead of another if a paired test says so, two-sided, with Holm's correction over all pairs
    of arms. Of m arms, one with a arms shown ahead of it and b shown behind it has a rank from 1 + a to m - b. E.g. if
    A and B are both ahead of C but not told apart, A and B have ranks 1-2 and C has 3-3. With fewer than two replicates
    nothing is shown, and every range is 1 to m.
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
