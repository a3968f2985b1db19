"""Categories in words: a discovered one has a number for a name, which says nothing; its features say what it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from results.analysis.capacity import bits_of
from results.records.study_record import StudyRecord
from spinlock_dist.config import LEVELS
from spinlock_dist.metrics.record import Metrics

NAMED = 3
"""Features of a category that are named where it is described."""
SHOWN_CHARACTERS = 28
"""Of a feature's name beside that of its category."""


def described(features: Sequence[str], most: int = NAMED) -> str:
    """The features of a category, `family::name` each, in words: how many of which family, and the first by name.

    For example `29 features, 24 summary and 5 temporal: mean_lag_2, mean_lag_4, energy_lag_2 and 26 more`. Empty if
    there are none.
    """
    if not features:
        return ""
    families = Counter(feature.partition("::")[0] for feature in features if "::" in feature).most_common()
    counted = [f"{count} {family}" for family, count in families]
    if len(counted) == 1 and families[0][1] == len(features):
        counted = [f"all {families[0][0]}"] if len(features) > 1 else [families[0][0]]
    of_which = ", ".join(counted[:-1]) + (" and " if len(counted) > 1 else "") + counted[-1] if counted else ""
    names = [feature.partition("::")[2] or feature for feature in features[:most]]
    more = f" and {len(features) - most} more" if len(features) > most else ""
    what = f"{len(features)} feature{'' if len(features) == 1 else 's'}"
    return f"{what}{f', {of_which}' if of_which else ''}: {', '.join(names)}{more}"


def labelled(name: str, features: Sequence[str]) -> str:
    """A category for an axis: its name and its first feature, e.g. `cluster_17: mean_lag_2 +28`."""
    if not features:
        return name
    first = features[0].rpartition("::")[2]
    short = first if len(first) <= SHOWN_CHARACTERS else f"{first[: SHOWN_CHARACTERS - 1]}…"
    more = f" +{len(features) - 1}" if len(features) > 1 else ""
    return f"{name}: {short}{more}"


def codes_in_words(metrics: Metrics, category: str) -> str:
    """The codes of a category's codebooks, L0 to L2: `64, 32x8, off` where L1 has two codebooks and L2 none."""
    levels: dict[str, list[int]] = {level: [] for level in LEVELS}
    for book in metrics.codebooks:
        if book["category"] == category:
            levels[book["level"].partition(".")[0]].append(book["codes"])
    return ", ".join("x".join(map(str, codes)) or "off" for codes in levels.values())


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a category has under uniform ratios and in another trial."""

    category: str
    bits: tuple[float, float]
    """Of the baseline, then of the trial."""
    codes: tuple[str, str]
    fvu: tuple[float, float]

    def in_words(self, study: StudyRecord) -> str:
        """Where bits went and what came of it, with the names of features."""
        features = described(study.categories.get(self.category, ()))
        before, after = self.bits
        change = "as many" if abs(after - before) < 0.05 else f"{after:.1f}"
        codes, fvu = f"codes {self.codes[1]} instead of {self.codes[0]}", "FVU {:.3f} to {:.3f}".format(*self.fvu)
        name = f"{self.category} ({features})" if features else self.category
        return f"{name}: {change} bits where uniform ratios give {before:.1f} ({codes}), {fvu}"


def moved(category: str, baseline: Metrics, trial: Metrics) -> Moved:
    """What `category` has in `trial` and under uniform ratios."""
    return Moved(
        category=category,
        bits=(bits_of(baseline)[category], bits_of(trial)[category]),
        codes=(codes_in_words(baseline, category), codes_in_words(trial, category)),
        fvu=(baseline.fvu[category], trial.fvu[category]),
    )


def moves(baseline: Metrics, trial: Metrics) -> list[Moved]:
    """Every category, the worst under uniform ratios first; none where the two have other categories."""
    if set(baseline.fvu) != set(trial.fvu):
        return []
    return [moved(name, baseline, trial) for name in sorted(baseline.fvu, key=lambda name: -baseline.fvu[name])]
