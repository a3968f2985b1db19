"""All metrics of a split, from one pass. A new one is a function of what is scored, and a line in `METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from spinlock_dist.metrics.record import Metrics
from spinlock_dist.metrics.scored import Scored
from spinlock_dist.registry import Registry

METRICS: Registry[Callable[[Scored], Mapping[str, Any]]] = Registry(
    "metric",
    {
        "reconstruction": "spinlock_dist.metrics.reconstruction:reconstruction_metrics",
        "codebooks": "spinlock_dist.metrics.codebook:codebook_metrics",
        "reference": "spinlock_dist.metrics.reference:reference_metrics",
        "estimates": "spinlock_dist.metrics.estimates:estimate_metrics",
        "topology": "spinlock_dist.metrics.topology:topology_metrics",
    },
)
"""Each gives values by name: fields of `Metrics`, or any other number, which is kept under `extra`."""

FIELDS = {field.name for field in fields(Metrics)}


def score(scored: Scored) -> Metrics:
    """Every metric in `METRICS`, of a network and of a codec by the same definitions."""
    values: dict[str, Any] = {}
    for metric in METRICS.values():
        values |= metric(scored)
    extra = {name: float(value) for name, value in values.items() if name not in FIELDS}
    return Metrics(split=scored.split, extra=extra, **{name: values[name] for name in values.keys() & FIELDS})
