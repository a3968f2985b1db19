"""Does the latent space keep the neighbourhoods of feature space?"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

MAX_ROWS = 256


def topographic_similarity(features_ND: np.ndarray, latents_NZ: np.ndarray) -> float:
    """Return the Pearson correlation between pairwise distances in features and in latents, over the first 256 rows.

    0 if either has no two rows that differ.
    """
    left, right = (pdist(np.asarray(x[:MAX_ROWS], dtype=np.float64)) for x in (features_ND, latents_NZ))
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
