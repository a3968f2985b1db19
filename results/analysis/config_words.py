"""A trial's config in words."""

from __future__ import annotations

from results.records.settings import CAPACITY, CHOICES, RULE
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from spinlock_dist.compression.strategies import STRATEGIES

RULES = {"spinlock": "by Spinlock's published rule", "graded": "graded over its bounds"}
CAPACITIES = {"codes": "its ratios move codes", "latent": "its ratios move latent dimensions alone"}


def config_in_words(study: StudyRecord, record: TrialRecord) -> str:
    """What a trial did: its strategy and who gains by it, its rule, what its ratios move, and what else was searched.

    For example `strategy information, which gives more to categories that few components do not explain, by Spinlock's
    published rule; its ratios move codes; training.learning_rate 0.002`. Settings without effect are left out.
    """
    settings, name = study.settings, study.settings.strategy(record)
    strategy = STRATEGIES.get(name)
    parts = [f"strategy {name or 'unknown'}"]
    if strategy is not None and strategy.idea:
        parts[0] += f", which gives more to {strategy.idea}"
    elif name == "uniform":
        parts[0] += ", the same ratios for every category"
    if strategy is not None and not settings.is_inert(record, RULE):
        rule = str(settings.value(record, RULE))
        parts[0] += f", {RULES.get(rule, rule)}"
    if strategy is not None and not settings.is_inert(record, CAPACITY):
        capacity = str(settings.value(record, CAPACITY))
        parts.append(CAPACITIES.get(capacity, capacity))
    others = {name: value for name, value in settings.live(record).items() if name not in CHOICES}
    parts += [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in others.items()
    ]
    return "; ".join(parts)
