"""Allocation by feedback: train a short pilot, measure every category, move bits to where the error is, repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spinlock_dist.compression.bounds import ratios_of_factor
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.sizing import CapacityPlan, plan_capacity, size_ratios
from spinlock_dist.compression.strategies.feedback import reallocate
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.prepare import Split
from spinlock_dist.seeding import derive_seed
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.trainer import train

PILOT_SHARE = 0.75
"""Share of the training rows that a pilot trains on. The rest measures it: validation rows steer nothing here."""


def plan_by_feedback(
    config: TrialConfig, data: EvaluationData, layout: GroupLayout, categories: Sequence[Characteristics]
) -> tuple[CapacityPlan, int]:
    """Return the plan that pilots led to, and the epochs they cost.

    A pilot's epoch counts as a whole one. Pilots end when the standard deviation of log FVU across categories no
    longer shrinks; the plan with the smallest is kept. Without a further pilot, the last reallocation is not measured.
    Raises `ConfigError` if the pilots would leave no epoch for training, `DivergedError` if one diverges.
    """
    settings = config.compression.feedback
    if settings.rounds * settings.pilot_epochs >= config.training.epochs:
        raise ConfigError(
            f"compression.feedback: {settings.rounds} rounds of {settings.pilot_epochs} epochs leave none of "
            f"training.epochs {config.training.epochs}; lower one or raise the other"
        )
    rows = len(data.split.train)
    pilot = replace(data, split=_pilot_split(data.split, config.seed))
    plan, best_plan, best_spread = plan_capacity(config.compression, categories, rows, config.quantizer), None, np.inf
    uniform = config.compression.model_copy(update={"strategy": "uniform"})
    baseline = plan_capacity(uniform, categories, rows).bits.sum(axis=1)
    for used in range(1, settings.rounds + 1):
        fvu = _measure(config, plan, pilot, layout)
        spread = float(np.log(np.maximum(fvu, 1e-6)).std())
        if spread >= best_spread:
            assert best_plan is not None
            return best_plan, used * settings.pilot_epochs
        best_plan, best_spread = plan, spread
        bits = reallocate(plan.bits.sum(axis=1), fvu, [each.spectrum for each in categories], settings.step)
        plan = size_ratios(
            config.compression,
            ratios_of_factor(config.compression, bits / baseline),
            categories,
            rows,
            config.quantizer,
        )
    return plan, settings.rounds * settings.pilot_epochs


def _pilot_split(split: Split, seed: int) -> Split:
    rows = np.random.default_rng(derive_seed(seed, "pilot split")).permutation(split.train)
    cut = round(PILOT_SHARE * len(rows))
    return Split(train=np.sort(rows[:cut]), validation=np.sort(rows[cut:]), test=split.test)


def _measure(config: TrialConfig, plan: CapacityPlan, pilot: EvaluationData, layout: GroupLayout) -> np.ndarray:
    epochs = config.compression.feedback.pilot_epochs
    short = config.with_overrides(
        {"training.epochs": epochs, "training.evaluate_every": epochs, "training.patience": None}
    )
    _, [member] = train([short], [plan], pilot, layout, [lambda _: None], [0])
    if member.diverged:
        raise DivergedError(member.diverged.epoch, f"in a pilot {member.diverged.term}")
    assert member.validation is not None
    return np.array(list(member.validation.fvu.values()))
