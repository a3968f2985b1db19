"""How far errors are from what a Gaussian of the same correlations would leave at the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spinlock_dist.compression.rate_distortion import gaussian_reference
from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR, fvu_by_category, imbalance
from spinlock_dist.metrics.scored import Scored


def reference_metrics(scored: Scored) -> dict[str, Any]:
    """`reference_fvu`, `reference_imbalance` and `reference_distance`."""
    reference_C = gaussian_reference(scored.spectra, scored.bits_C)
    fvu = fvu_by_category(scored.target_ND, scored.output_ND, scored.train_mean_D, scored.categories)
    names = [category.name for category in scored.categories]
    return {
        "reference_fvu": dict(zip(names, map(float, reference_C), strict=True)),
        "reference_imbalance": imbalance(reference_C),
        "reference_distance": distance_to_reference(list(fvu.values()), reference_C),
    }


def distance_to_reference(errors: Sequence[float], reference: Sequence[float] | np.ndarray) -> float:
    """The geometric mean of errors over reference errors, both floored at 1e-6."""
    measured, expected = (
        np.maximum(np.asarray(values, dtype=np.float64), IMBALANCE_FLOOR) for values in (errors, reference)
    )
    return float(np.exp(np.log(measured / expected).mean()))
