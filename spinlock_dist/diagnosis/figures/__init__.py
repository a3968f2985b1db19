"""Figures of a diagnosis. Add one with a module that holds a `FIGURE`, and its line in `FIGURES`."""

from __future__ import annotations

from spinlock_dist.diagnosis.figures.figure import Figure
from spinlock_dist.registry import Registry

FIGURES: Registry[Figure] = Registry(
    "figure",
    {
        "usage": "spinlock_dist.diagnosis.figures.usage:FIGURE",
        "levels": "spinlock_dist.diagnosis.figures.levels:FIGURE",
        "similarity": "spinlock_dist.diagnosis.figures.similarity:FIGURE",
        "shared": "spinlock_dist.diagnosis.figures.shared:FIGURE",
        "codes": "spinlock_dist.diagnosis.figures.codes:FIGURE",
        "operators": "spinlock_dist.diagnosis.figures.operators:FIGURE",
        "correlation": "spinlock_dist.diagnosis.figures.correlation:FIGURE",
    },
)
"""In the order in which they stand on the page."""
