"""Spinlock's codebook sizes: the bits of the uniform baseline."""

from __future__ import annotations

import numpy as np

PUBLISHED_SAMPLES = 10_000


def published_codes(features: int, samples: int = PUBLISHED_SAMPLES) -> tuple[int, int, int]:
    """Return Spinlock's codebook sizes of L0, L1, L2 for a category, for example 24, 13 and 6 for 14 features.

    base = floor(7 log2 n); K0 = 4 floor(base / 4), at least min(28, max(5, floor(4.8 sqrt(samples / 1000))));
    K1 = max(6, floor(base / 2)); K2 = max(6, floor(base / 4)).
    """
    base = int(7 * np.log2(features))
    floor = min(28, max(5, int(4.8 * np.sqrt(samples / 1000))))
    return max(4 * (base // 4), floor), max(6, base // 2), max(6, base // 4)
