"""A trial's settings, whether its study searches or fixes them.

`TrialRecord.params` holds only what a search drew, so a setting that a study fixes is missing there. Whoever asks what
a trial did asks here: the answer is the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from results.records.trial_record import TrialRecord
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig

STRATEGY, RULE, CAPACITY = CHOICES = ("compression.strategy", "compression.rule", "compression.capacity")
"""The settings that say in words what a trial did."""

RATIO_SETTINGS = ("rule", "capacity", "bounds", "sharpness", "min_ratio_range", "feedback")
"""Of `compression`, what only shapes ratios: uniform ones, the baseline's, do not depend on it."""


@dataclass(frozen=True)
class TrialSettings:
    """The settings of a study's trials by dotted name."""

    shared: Mapping[str, Any]
    """What the trials have in common, as nested plain data; empty where study.yaml no longer says."""

    @classmethod
    def of(cls, base: TrialConfig) -> TrialSettings:
        """The settings of trials that vary `base`."""
        return cls(base.model_dump(mode="json"))

    def value(self, record: TrialRecord, name: str) -> Any:
        """A trial's value of a setting; None where neither the trial nor the study says."""
        return record.params[name] if name in record.params else setting_in(self.shared, name)

    def strategy(self, record: TrialRecord) -> str:
        """A trial's strategy, empty where it is not known."""
        return str(self.value(record, STRATEGY) or "")

    def has_rule(self, record: TrialRecord) -> bool:
        """Whether a trial's strategy has a published rule beside the graded one; True where it is not known."""
        strategy = STRATEGIES.get(self.strategy(record))
        return strategy is None or strategy.has_rule

    def is_inert(self, record: TrialRecord, name: str) -> bool:
        """Whether a setting made no difference to a trial: one that shapes ratios in a way its strategy never reads.

        False where the strategy is not known.
        """
        section, _, part = name.partition(".")
        setting = part.partition(".")[0]
        known = STRATEGIES.get(self.strategy(record))
        if section != "compression" or setting not in RATIO_SETTINGS or known is None:
            return False
        return setting not in known.reads(str(self.value(record, RULE) or "graded"))

    def live(self, record: TrialRecord) -> dict[str, Any]:
        """The searched settings of a trial that could make a difference to it."""
        return {name: value for name, value in record.params.items() if not self.is_inert(record, name)}

    def follows_published_rule(self, record: TrialRecord) -> bool:
        """Whether a trial used one of Spinlock's strategies under its published rule."""
        known = self.strategy(record) in STRATEGIES
        return known and self.has_rule(record) and self.value(record, RULE) == "spinlock"

    def in_words(self, record: TrialRecord) -> str:
        """A trial's strategy, rule (where it has two) and capacity, then whatever else was chosen by name.

        For example `balanced graded codes`.
        """
        names = [name for name in CHOICES if name != RULE or self.has_rule(record)]
        names += [name for name in record.params if name not in CHOICES]
        values = [self.value(record, name) for name in names]
        return " ".join(value for value in values if isinstance(value, str))


def setting_in(tree: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name in nested plain data, a bound's `span` as its high / low; None if it is not there."""
    node: Any = tree
    for key in name.split("."):
        if key == "span" and isinstance(node, Mapping) and {"low", "high"} <= node.keys():
            return node["high"] / node["low"]
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
