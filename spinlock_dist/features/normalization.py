"""Per-feature normalization, fitted on training rows and invertible.

Legend: N rows, D columns, Q quantile knots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

Kind = Literal["standard", "robust", "quantile"]

_KNOTS = 512
# Robust normalization of a column whose middle half is almost a point would blow its tails up without bound.
_SMALLEST_IQR = 0.01


@dataclass(frozen=True)
class Normalization:
    """A fitted normalization.

    `standard` and `robust`: (x - center) / scale, with `center` and `scale` `[D]`. `quantile`: interpolation between
    `knots` `[Q, D]`, ascending, and the normal `scores` `[Q]` of their ranks.
    """

    kind: Kind
    arrays: dict[str, np.ndarray]

    def apply(self, x_ND: np.ndarray) -> np.ndarray:
        """`[N, D]` float64 in normalized units. `quantile` holds values to the range of the training rows."""
        if self.kind != "quantile":
            return (np.asarray(x_ND, dtype=np.float64) - self.arrays["center"]) / self.arrays["scale"]
        knots, scores = self.arrays["knots"], self.arrays["scores"]
        return np.stack([_score(x, knots[:, d], scores) for d, x in enumerate(np.asarray(x_ND).T)], axis=1)

    def invert(self, z_ND: np.ndarray) -> np.ndarray:
        """`[N, D]` float64 in the units that `apply` was given."""
        z = np.asarray(z_ND, dtype=np.float64)
        if self.kind != "quantile":
            return z * self.arrays["scale"] + self.arrays["center"]
        knots, scores = self.arrays["knots"], self.arrays["scores"]
        return np.stack([np.interp(column, scores, knots[:, d]) for d, column in enumerate(z.T)], axis=1)


def fit_normalization(kind: Kind, x_ND: np.ndarray) -> Normalization:
    """Fit on cleaned training rows `[N, D]`; no column may be constant.

    `standard`: mean and standard deviation. `robust`: median and interquartile range, or the standard deviation where
    the range is below a hundredth of it. `quantile`: ranks to a standard normal.
    """
    x = np.asarray(x_ND, dtype=np.float64)
    if kind == "quantile":
        return Normalization(kind, _quantile_knots(x))
    median = np.median(x, axis=0)
    deviation = x - median  # keeps digits where the mean is far larger than the spread
    std = deviation.std(axis=0)
    if kind == "standard":
        return Normalization(kind, {"center": median + deviation.mean(axis=0), "scale": std})
    iqr = np.subtract(*np.percentile(deviation, (75, 25), axis=0))
    return Normalization(kind, {"center": median, "scale": np.where(iqr > _SMALLEST_IQR * std, iqr, std)})


def _quantile_knots(x: np.ndarray) -> dict[str, np.ndarray]:
    """Order statistics at evenly spaced ranks, from minimum to maximum, and their normal scores (Hazen 1914)."""
    rows = len(x)
    ranks = np.linspace(0, rows - 1, min(rows, _KNOTS)).round().astype(np.int64)
    return {"knots": np.sort(x, axis=0)[ranks], "scores": ndtri((ranks + 0.5) / rows)}


def _score(x: np.ndarray, knots: np.ndarray, scores: np.ndarray) -> np.ndarray:
    # Interpolated from both sides: a value that fills several knots (a tie) gets the middle of their scores.
    from_below = np.interp(x, knots, scores)
    from_above = -np.interp(-x, -knots[::-1], -scores[::-1])
    return (from_below + from_above) / 2
