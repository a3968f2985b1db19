"""Does the latent space keep the neighbourhoods of feature space?"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from spinlock_dist.metrics.scored import Scored

MAX_ROWS = 256


def row_distances(x_ND: np.ndarray) -> np.ndarray:
    """The distances `[pairs]` between the first 256 rows."""
    x = np.asarray(x_ND[:MAX_ROWS], dtype=np.float64)
    x = x - x.mean(axis=0)  # what rows have in common cancels in the squares below, and digits with it
    squares = np.square(x).sum(axis=1)
    apart = squares[:, None] + squares - 2 * (x @ x.T)  # by one product: latents have a thousand dimensions
    return np.sqrt(np.maximum(apart, 0)[_pairs(len(x))])


@lru_cache(maxsize=2)
def _pairs(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(rows, k=1)


def topographic_similarity(features: np.ndarray, latents: np.ndarray) -> float:
    """The Pearson correlation between the distances of rows in features and in latents; see `row_distances`.

    0 if either has no two rows that differ, NaN if either is not finite.
    """
    if not (np.isfinite(features).all() and np.isfinite(latents).all()):
        return float("nan")
    if len(features) < 2 or np.ptp(features) == 0 or np.ptp(latents) == 0:
        return 0.0
    return float(np.corrcoef(features, latents)[0, 1])


def topology_metrics(scored: Scored) -> dict[str, Any]:
    """`topographic_pre` and `topographic_post`; nothing where there is no latent space."""
    if scored.latents is None or scored.distances is None:
        return {}
    before, after = (topographic_similarity(scored.distances, side) for side in scored.latents)
    return {"topographic_pre": before, "topographic_post": after}
