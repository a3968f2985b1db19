"""feedback: bits by measured error. Pilots show which categories come out badly, and bits move there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.strategies.strategy import Measured, Strategy

FEEDBACK = Strategy(
    measured=Measured("spinlock_dist.baselines.pilots:plan_by_pilots"),
    looks_up=("compression.feedback", "compression.max_codebooks", "quantizer.beam"),
    idea="categories in which pilots measured more error",
)

LEAST_LOG = -60.0
"""Log2 of an error that no category reaches."""
WORTH_MEASURED = 0.25
"""Share of what theory promises that the last bits have to have brought, for more to be given."""
NEAR_LEAST = float(np.log2(1.05))
"""Within this of the least error measured, fewer bits do as well."""

Point = tuple[float, float]
"""Bits of a category, and log2 of the error measured with them."""


def equal_errors(
    measured: Sequence[Sequence[Point]], spectra: Sequence[Sequence[float]], total: float, most: float
) -> np.ndarray:
    """The bits `[C]` that sum to `total` at which all categories are predicted to have the same error.

    `measured` has one point or more of each category; each keeps one bit at least and gets `most` at most. A category
    whose error bits no longer lower has reached what it can; if all have, the rest is shared in proportion.
    """
    curves = [_Curve(points, spectrum) for points, spectrum in zip(measured, spectra, strict=True)]

    def at(log_error: float) -> np.ndarray:
        return np.clip([curve.bits_at(log_error) for curve in curves], 1.0, most)

    low, high = LEAST_LOG, 10.0
    if (least := at(low)).sum() < total:
        return np.minimum(least * total / least.sum(), most)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() > total else (low, middle)
    return at(high)


class _Curve:
    """Error of one category against its bits: through what was measured, beyond it by theory.

    Half a bit on each of the components above the distortion halves it (high-rate theory, Gersho & Gray 1992).
    """

    def __init__(self, points: Sequence[Point], spectrum: Sequence[float]):
        bits, logs = np.array(sorted(points)).T
        # More bits never hurt: what fewer can do, more can. Where it was measured otherwise, that is noise.
        self.bits, self.logs = bits, np.minimum.accumulate(logs)
        self.spectrum = np.asarray(spectrum, dtype=np.float64)
        self.least = self.logs[-1] + NEAR_LEAST if self._has_stopped_falling() else -np.inf

    def bits_at(self, log_error: float) -> float:
        """The fewest bits for an error of 2 ** `log_error`, or for the least that bits were seen to reach."""
        log_error = max(log_error, self.least)
        if log_error >= self.logs[0]:
            return float(self.bits[0] - (log_error - self.logs[0]) * self._bits_to_halve(log_error, self.logs[0]))
        if log_error < self.logs[-1]:
            return float(self.bits[-1] + (self.logs[-1] - log_error) * self._bits_to_halve(log_error, self.logs[-1]))
        after = int(np.argmax(self.logs <= log_error))
        (x0, x1), (y0, y1) = self.bits[after - 1 : after + 1], self.logs[after - 1 : after + 1]
        return float(x0 + (x1 - x0) * (y0 - log_error) / (y0 - y1))

    def _has_stopped_falling(self) -> bool:
        """Whether the most bits measured brought next to nothing: what is left is in rows that no code is like."""
        if len(self.bits) < 2:
            return False
        (fewer, most), (before, after) = self.bits[-2:], self.logs[-2:]
        promised = (most - fewer) / self._bits_to_halve(before, after)
        return bool(most > fewer and before - after < WORTH_MEASURED * promised)

    def _bits_to_halve(self, start: float, end: float) -> float:
        above = self.spectrum > 2.0 ** ((start + end) / 2) * self.spectrum.mean()
        return max(1, int(above.sum())) / 2
