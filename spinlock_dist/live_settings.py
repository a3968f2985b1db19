"""Which settings of a trial are read, given its others: the one rule for whoever asks what made a difference.

A setting that is not *live* changes nothing: whatever its value, as long as the config can be run, sizes and trained
model are the same bit for bit. So no search space samples it there, trials that differ in nothing else are duplicates,
and nothing counts it as important. A live one need not make a difference on the data at hand.

`prepare` is live throughout: data is fixed for a study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from typing import Any

from spinlock_dist.compression.strategies import STRATEGIES, Strategy
from spinlock_dist.config import TrialConfig

UNIFORM = "uniform"
"""The strategy of the baseline."""

Value = Callable[[str], Any]
"""The value of a setting by its dotted name; None where it is not known: it is then taken for whatever reads most."""


def is_live(name: str, value: Value) -> bool:
    """Whether the setting `name` is read where others have these values.

    A part of a setting, such as `compression.bounds.L0.low`, is read where the whole is. Strategies and quantizers that
    come from elsewhere are taken to read whatever they could.
    """
    section, _, rest = name.partition(".")
    setting = rest.partition(".")[0]
    others = _Others(value)
    if others.strategy is not None and others.strategy.may_look_up(f"{section}.{setting}"):
        return True
    return _RULES.get(section, _no_rule)(others).get(setting, True)


def is_live_in(config: TrialConfig, name: str) -> bool:
    """Whether `config` reads its setting `name`."""
    return is_live(name, partial(_value, config))


def settled(config: TrialConfig, base: TrialConfig | None = None) -> TrialConfig:
    """`config` with those settings that are not live as in `base`, by default at their defaults.

    Of configs of the same `base` that differ in nothing else this is the same, and so is what is trained.
    """
    source = base or _DEFAULTS
    changed = {}
    for section, rule in _RULES.items():
        names = [name for name in rule(_Others(partial(_value, config))) if not is_live_in(config, f"{section}.{name}")]
        changes = {name: _value(source, f"{section}.{name}") for name in names}
        changed[section] = _value(config, section).model_copy(update=changes)
    return config.model_copy(update=changed)


_DEFAULTS = TrialConfig()


def _value(config: TrialConfig, name: str) -> Any:
    return reduce(getattr, name.split("."), config)


# ---------------------------------------------------------------- the rule


@dataclass(frozen=True)
class _Others:
    """What the other settings may be."""

    value: Value

    def may_be(self, name: str, *values: Any) -> bool:
        found = self.value(name)
        return found is None or found in values

    def may_exceed(self, name: str, limit: float) -> bool:
        found = self.value(name)
        return not isinstance(found, int | float) or found > limit

    @cached_property
    def strategy(self) -> Strategy | None:
        """None where it is not known."""
        return STRATEGIES.get(str(self.value("compression.strategy")))

    @property
    def learned(self) -> bool:
        """Whether codebooks are learned, or may be."""
        return self.value("quantizer.kind") != "fsq"

    @property
    def has_own_decoders(self) -> bool:
        return self.value("model.decoder") != "shared"


def _no_rule(_: _Others) -> Mapping[str, bool]:
    return {}


def _compression(others: _Others) -> Mapping[str, bool]:
    """Needs are spread over the bounds, or looked up in tables and widened; a factor is cut off at the bounds.

    Uniform ratios buy what they do under any `capacity`, and finite scalars are bits and dimensions at once.
    """
    strategy = others.strategy
    if strategy is None:
        return {}
    has_need, has_factor = strategy.need is not None, strategy.factor is not None
    spread = has_need and (not strategy.has_rule or others.may_be("compression.rule", "graded"))
    looked_up = strategy.has_rule and others.may_be("compression.rule", "spinlock")
    widened = looked_up and others.may_exceed("compression.min_ratio_range", 1)
    buys = not others.may_be("compression.strategy", UNIFORM) and others.learned
    return {
        "rule": strategy.has_rule,
        "capacity": buys,
        "bounds": spread or has_factor,
        "sharpness": spread or has_factor or widened,
        "min_ratio_range": looked_up or has_factor,
        "feedback": False,  # but where a strategy looks it up
        "given": False,
        "max_codebooks": buys and others.may_be("compression.capacity", "codes"),
    }


def _model(others: _Others) -> Mapping[str, bool]:
    return {"shared_hidden": others.may_be("model.decoder", "shared")}


def _quantizer(others: _Others) -> Mapping[str, bool]:
    if not others.may_be("quantizer.kind", "ema", "fsq"):
        return {}
    learned = others.learned
    return {
        "fsq_levels": others.may_be("quantizer.kind", "fsq"),
        "ema_decay": learned,
        "kmeans_iterations": learned and others.may_be("model.initialization", "data"),
        "expiry_share": learned,
        "expiry_every": learned and others.may_exceed("quantizer.expiry_share", 0),
        "beam": learned and others.has_own_decoders,
    }


def _training(others: _Others) -> Mapping[str, bool]:
    """Decoders are refined on tokens that a beam search has found, as `HierarchicalVQVAE.searches` says."""
    searched = others.may_be("quantizer.kind", "ema") and others.may_exceed("quantizer.beam", 1)
    return {
        "decay_share": others.may_be("training.schedule", "wsd"),
        "refine_share": searched and others.has_own_decoders,
    }


_RULES: dict[str, Callable[[_Others], Mapping[str, bool]]] = {
    "compression": _compression,
    "model": _model,
    "quantizer": _quantizer,
    "training": _training,
}
"""By section, which of its settings are read where; those that are not named always are."""
