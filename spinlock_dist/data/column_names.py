"""Column names of Spinlock's HDF5 families, from the `feature_registry` {group: {name: column}} stored beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

Registry = dict[str, dict[str, int]]

# In Spinlock's own files the registry lists everything that can be extracted, while each array holds a part of it.
# Which part, and in this order, was established on a real file: the aggregated array begins with the mean over
# realizations of the per-trajectory one, whose bounded features (monotonicity, R2, shares) fall where these groups
# put them; in the temporal array range = max - min and the five percentiles ascend in theirs.
PER_STEP_GROUPS = ("spatial", "spectral", "cross_channel")
PER_TRAJECTORY_GROUPS = ("temporal", "causality", "invariant_drift")


def positional_names(count: int) -> tuple[str, ...]:
    """`feature_0` ... for columns of which nothing is known."""
    return tuple(f"feature_{column}" for column in range(count))


def registered_names(count: int, registry: Registry) -> tuple[str, ...] | None:
    """The names of `count` columns if the registry covers exactly these, else None."""
    columns = [column for group in registry.values() for column in group.values()]
    if sorted(columns) != list(range(count)):
        return None
    by_column = dict(zip(columns, _flat_names(registry, registry), strict=True))
    return tuple(by_column[column] for column in range(count))


def aggregated_names(count: int, registry: Registry, aggregations: Sequence[str]) -> tuple[str, ...] | None:
    """`name.aggregation` if `count` is the per-trajectory features once per aggregation, else None."""
    names = _flat_names(registry, PER_TRAJECTORY_GROUPS)
    if not names or count != len(names) * len(aggregations):
        return None
    return tuple(f"{name}.{aggregation}" for aggregation in aggregations for name in names)


def per_step_names(count: int, registry: Registry) -> tuple[str, ...] | None:
    """The names of the per-step features if there are `count` of them, else None."""
    names = _flat_names(registry, PER_STEP_GROUPS)
    return names if names and len(names) == count else None


def _flat_names(registry: Registry, groups: Iterable[str]) -> tuple[str, ...]:
    """The names in the given groups, in registry order; a name that two groups share gets its group's name."""
    pairs = [(group, name) for group in groups for name in registry.get(group, {})]
    times = Counter(name for _, name in pairs)
    return tuple(name if times[name] == 1 else f"{group}.{name}" for group, name in pairs)
