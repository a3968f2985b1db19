"""A trial's settings, whether its study searches or fixes them.

`TrialRecord.params` holds only what a search drew, so a setting that a study fixes is missing there. Whoever asks what
a trial did asks here: the answer is the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.records.trial_record import BASELINE, TrialRecord
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import LEVELS, TrialConfig
from spinlock_dist.given_ratios import MAX_RATIO

STRATEGY, RULE, CAPACITY = CHOICES = ("compression.strategy", "compression.rule", "compression.capacity")
"""The settings that say in words what a trial did."""

UNIFORM = "uniform"
"""The strategy of the baseline."""
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

    def apart(self, records: Sequence[TrialRecord]) -> list[str]:
        """What each of `records` is in words, and then the numbers in which they differ.

        For example `waterfill codes, learning rate 0.0021, L0 0.21-0.84`. Records whose settings are not the same have
        not the same text: there are as many digits as that takes.
        """
        names = list(dict.fromkeys(name for each in records for name in each.params))
        known = [self._numbers(record, names) for record in records]
        differ = [name for name in names if len({numbers.get(name) for numbers in known}) > 1]
        words = [UNIFORM if record.arm == BASELINE else self.in_words(record) for record in records]
        values = [tuple(numbers.get(name) for name in differ) for numbers in known]
        told = words
        for digits in (2, 3, 4, 6, 17):
            told = [
                ", ".join([*filter(None, [each]), *numbers_in_words(dict(zip(differ, own, strict=True)), digits)])
                for each, own in zip(words, values, strict=True)
            ]
            if len(set(told)) == len(set(zip(words, values, strict=True))):
                break
        return told

    def _numbers(self, record: TrialRecord, names: Sequence[str]) -> dict[str, float]:
        """What a trial has of `names` that is a number; of the baseline, what does not shape ratios."""
        if record.arm == BASELINE:
            shaping = tuple(f"compression.{name}" for name in RATIO_SETTINGS)
            found = {name: self.value(record, name) for name in names if not name.startswith(shaping)}
        else:
            found = {name: record.params[name] for name in names if name in record.params}
        return {name: value for name, value in found.items() if isinstance(value, int | float)}


def numbers_in_words(numbers: Mapping[str, float | None], digits: int) -> list[str]:
    """Settings by the last part of their names, e.g. `learning rate 0.0021`; a level's bounds as one range.

    Those that are None are left out.
    """
    told = []
    for name, value in numbers.items():
        *parts, last = name.split(".")
        part = parts[-1] if parts else ""
        low = numbers.get(f"{name.removesuffix('span')}low")
        if value is None or (last == "low" and numbers.get(f"{name.removesuffix('low')}span") is not None):
            continue  # the range is told where its span is
        if last == "span" and low is not None:
            told.append(f"{part} {low:.{digits}g}-{min(MAX_RATIO, low * value):.{digits}g}")
        elif part in LEVELS:
            told.append(f"{part} {last} {value:.{digits}g}")
        else:
            told.append(f"{last.replace('_', ' ')} {value:.{digits}g}")
    return told


def setting_in(tree: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name in nested plain data, a bound's `span` as its high / low; None if it is not there."""
    node: Any = tree
    for key in name.split("."):
        if key == "span" and isinstance(node, Mapping) and {"low", "high"} <= node.keys():
            return node["high"] / node["low"]
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
