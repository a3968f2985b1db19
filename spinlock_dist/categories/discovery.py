"""Category discovery: features that vary together are tokenized together.

Legend: N rows, D columns, K clusters.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from spinlock_dist.categories.category import Category
from spinlock_dist.config import CategoriesConfig
from spinlock_dist.errors import ConfigError, DataError
from spinlock_dist.memory import require_memory


def discover_categories(x_ND: np.ndarray, config: CategoriesConfig) -> tuple[Category, ...]:
    """Partition the D columns of training rows `[N, D]` into categories `cluster_1` ..., by their first columns.

    Ward linkage on 1 - |correlation|, cut into `count` clusters or, if that is None, into the number from 2 to
    `max_count` whose partition has the highest silhouette (Rousseeuw 1987). Clusters of fewer than `min_features` are
    merged into the nearest by average distance before a partition is judged, so what is judged is what is used.
    Raises `ConfigError` if `count` exceeds D, `DataError` if all pairs of columns are more than fits in memory.
    """
    columns = x_ND.shape[1]
    if config.count is not None and config.count > columns:
        raise ConfigError(f"categories.count: {config.count} categories asked for, the data has {columns} columns")
    require_memory(
        4 * 8 * columns**2,
        f"finding categories among {columns} columns",
        DataError,
        "give them in a file (prepare.categories.mapping), or choose fewer columns",
    )
    distance = correlation_distance(x_ND)
    partitions = _partitions(distance, config)
    return _as_categories(max(partitions, key=lambda labels: _silhouette(distance, labels)))


def correlation_distance(x_ND: np.ndarray) -> np.ndarray:
    """1 - |correlation| between columns, `[D, D]`, in [0, 1]; a constant column is at 1 from all others."""
    centred = x_ND.astype(np.float64) - x_ND.mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    distance = 1.0 - np.abs(unit.T @ unit)
    distance = np.clip((distance + distance.T) / 2, 0.0, 1.0)  # exactly symmetric, as the condensed form requires
    np.fill_diagonal(distance, 0.0)
    return distance


def _partitions(distance: np.ndarray, config: CategoriesConfig) -> list[np.ndarray]:
    """The candidate partitions, each `[D]` labels; the single cluster first, the answer when none is better."""
    columns = len(distance)
    single = np.zeros(columns, dtype=np.int64)
    if config.count is None and columns < 2 * config.min_features:
        return [single]
    counts = [config.count] if config.count is not None else range(2, min(config.max_count, columns - 1) + 1)
    if columns == 1:
        return [single]
    tree = linkage(squareform(distance, checks=False), method="ward")
    cuts = [fcluster(tree, count, criterion="maxclust") for count in counts]
    merged = [merge_small_clusters(distance, labels, config.min_features) for labels in cuts]
    return [single, *merged] if config.count is None else merged


def _silhouette(distance: np.ndarray, labels: np.ndarray) -> float:
    """The mean silhouette; minus infinity for a partition it is not defined for (one cluster, or D of them)."""
    clusters = len(np.unique(labels))
    if not 2 <= clusters < len(labels):
        return -np.inf
    return float(silhouette_score(distance, labels, metric="precomputed"))


def merge_small_clusters(distance: np.ndarray, labels: np.ndarray, min_features: int) -> np.ndarray:
    """Labels `[D]` where clusters below `min_features` have joined the nearest by average distance.

    The closest pair of which one is too small merges first, until none is too small or one cluster is left. A rule on
    distances alone: the order of the columns has no say.
    """
    labels = labels.copy()
    while True:
        clusters, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        if len(clusters) == 1 or sizes.min() >= min_features:
            return labels
        member = np.eye(len(clusters))[index]
        average = member.T @ distance @ member / np.outer(sizes, sizes)
        is_small = sizes < min_features
        average[~(is_small[:, None] | is_small[None, :])] = np.inf
        np.fill_diagonal(average, np.inf)
        first, second = np.unravel_index(np.argmin(average), average.shape)
        labels[labels == clusters[first]] = clusters[second]


def _as_categories(labels: np.ndarray) -> tuple[Category, ...]:
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    members.sort(key=lambda columns: int(columns[0]))
    return tuple(Category(f"cluster_{rank}", tuple(map(int, columns))) for rank, columns in enumerate(members, start=1))
