"""A trial's settings, whether its study searches or fixes them.

`TrialRecord.params` holds only what a search drew, so a setting that a study fixes is missing there. Whoever asks what
a trial did asks here: the answer is the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from results.records.trial_record import BASELINE, TrialRecord
from spinlock_dist.config import LEVELS, STRATEGIES, TrialConfig
from spinlock_dist.given_ratios import MAX_RATIO
from spinlock_dist.live_settings import UNIFORM, is_live

STRATEGY, RULE, CAPACITY = CHOICES = ("compression.strategy", "compression.rule", "compression.capacity")
"""The settings that say in words what a trial did."""


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
        """A trial's value of a setting, or the baseline's; None where neither the trial nor the study says."""
        if name == STRATEGY and record.arm == BASELINE:
            return UNIFORM
        return record.params[name] if name in record.params else setting_in(self.shared, name)

    def strategy(self, record: TrialRecord) -> str:
        """A trial's strategy, empty where it is not known."""
        return str(self.value(record, STRATEGY) or "")

    def is_inert(self, record: TrialRecord, name: str) -> bool:
        """Whether a setting made no difference to a trial, as nothing reads it beside its others.

        False where these are not known.
        """
        return not is_live(name, partial(self.value, record))

    def live(self, record: TrialRecord) -> dict[str, Any]:
        """The searched settings of a trial that could make a difference to it."""
        return {name: value for name, value in record.params.items() if not self.is_inert(record, name)}

    def follows_published_rule(self, record: TrialRecord) -> bool:
        """Whether a trial used one of Spinlock's strategies under its published rule."""
        known = self.strategy(record) in STRATEGIES
        return known and not self.is_inert(record, RULE) and self.value(record, RULE) == "spinlock"

    def in_words(self, record: TrialRecord) -> str:
        """A trial's strategy, rule and capacity, then whatever else was chosen by name; without what nothing reads.

        For example `balanced graded codes`.
        """
        names = dict.fromkeys((*CHOICES, *record.params))
        values = [self.value(record, name) for name in names if not self.is_inert(record, name)]
        return " ".join(value for value in values if isinstance(value, str))

    def apart(self, records: Sequence[TrialRecord]) -> list[str]:
        """What each of `records` is in words, and then the numbers in which they differ.

        For example `waterfill codes, learning rate 0.0021, L0 0.21-0.84`. Records that differ in what is read have not
        the same text: there are as many digits as that takes.
        """
        names = list(dict.fromkeys(name for each in records for name in each.params))
        known = [self._numbers(record, names) for record in records]
        differ = [name for name in names if len({numbers.get(name) for numbers in known}) > 1]
        words = [self.in_words(record) for record in records]
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
        """What a trial has searched of `names`, and the baseline has, that is a number and read."""
        own = [name for name in names if name in record.params or record.arm == BASELINE]
        found = {name: self.value(record, name) for name in own if not self.is_inert(record, name)}
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
