"""Categories given by a file `category: [feature names]` instead of discovered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from spinlock_dist.categories.category import Category
from spinlock_dist.documents import read_document
from spinlock_dist.errors import ConfigError, did_you_mean


def read_mapping(
    path: str, names: tuple[str, ...], dropped: Collection[str], skip_empty: bool = False
) -> tuple[Category, ...]:
    """Read categories of the D columns called `names` (`family::feature`) from a YAML or JSON file, in its order.

    Features in `dropped`, which cleaning removed, may be named and are skipped. Raises `ConfigError` for a feature
    that is unknown, named twice or left out, and, unless they are to be skipped, for a category without a remaining
    feature.
    """
    mapping = read_names(path)
    _check_names(path, mapping, names, dropped)
    column = {name: index for index, name in enumerate(names)}
    categories = []
    for category, features in mapping.items():
        columns = sorted(column[feature] for feature in features if feature in column)
        if not columns and skip_empty:
            continue
        if not columns:
            raise ConfigError(f"{path}: category '{category}' has no feature that cleaning kept; remove it")
        categories.append(Category(category, tuple(columns)))
    return tuple(categories)


def read_names(path: str) -> dict[str, list[str]]:
    """The file as it is: feature names by category. Raises `ConfigError` unless it is a mapping of lists."""
    tree, lines = read_document(path)
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{path}: expected a mapping 'category: [feature names]'")
    for category, features in tree.items():
        line = lines.get((str(category),))
        where = f"{path}, line {line}" if line else path
        if not isinstance(features, list) or not features or not all(isinstance(name, str) for name in features):
            raise ConfigError(f"{where}: category '{category}' must be a list of feature names")
    return {str(category): features for category, features in tree.items()}


def _check_names(path: str, mapping: dict[str, list[str]], names: tuple[str, ...], dropped: Collection[str]) -> None:
    known = {*names, *dropped}
    for category, features in mapping.items():
        for feature in features:
            if feature not in known:
                raise ConfigError(
                    f"{path}: category '{category}' names unknown feature '{feature}'{_nearest(feature, known)}"
                )
    times = Counter(feature for features in mapping.values() for feature in features)
    twice = [feature for feature, count in times.items() if count > 1]
    if twice:
        raise ConfigError(f"{path}: feature '{twice[0]}' is named {times[twice[0]]} times; name each feature once")
    absent = [name for name in names if name not in times]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise ConfigError(f"{path}: no category has {', '.join(absent[:3])}{more}; put every feature in a category")


def _nearest(feature: str, known: Collection[str]) -> str:
    """The suggestion if there is one; a list of hundreds of features would help nobody."""
    suggestion = did_you_mean(feature, known)
    return suggestion if "did you mean" in suggestion else ""
