"""The composite sampler of a study: it knows the error of every category, and how imbalance and guards follow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from optuna.trial import FrozenTrial

from results.analysis.pareto import told_values
from results.records.optuna_trials import METRICS, PENALTY, SECONDS, attributes_of, metrics_of
from study.samplers.composite import VALUE, Composite, CompositeSampler
from study.samplers.kind import SamplerKind

LEAST_FVU = 1e-6
"""As in the imbalance."""


def told_value(trial: FrozenTrial) -> float | None:
    """What a study tells of a trial that completed, of one that was stopped as far as it got."""
    known = attributes_of(trial)
    metrics = metrics_of(known)
    if metrics is None:
        return trial.values[0] if trial.values else None
    value, *_ = told_values(metrics, known.get(PENALTY, 0.0), 1)
    return value


def log_errors(trial: FrozenTrial) -> Mapping[str, float]:
    """The log FVU of every category."""
    fvu: dict[str, float] = attributes_of(trial).get(METRICS, {}).get("fvu", {})
    return {name: math.log(max(value, LEAST_FVU)) for name, value in fvu.items()}


def compose(log_fvu: np.ndarray) -> Mapping[str, np.ndarray]:
    """What follows from log FVUs `[..., C]`: log10 imbalance, and the guards of worst and mean up to a constant."""
    worst = log_fvu.max(axis=-1)
    return {
        VALUE: (worst - log_fvu.min(axis=-1)) / math.log(10),
        "fvu_worst": worst,
        "fvu_mean": np.log(np.exp(log_fvu).mean(axis=-1)),
    }


def seconds(trial: FrozenTrial) -> float | None:
    """What a trial took on its worker; nothing of one that took the outcome of another."""
    return attributes_of(trial).get(SECONDS)


TIMED = Composite(told_value, log_errors, compose, seconds)
UNTIMED = Composite(told_value, log_errors, compose, None)

COMPOSITE = SamplerKind(
    make=lambda seed: CompositeSampler(TIMED, seed=seed),
    several_objectives=False,
    make_informed=lambda seed, timed, prior: CompositeSampler(TIMED if timed else UNTIMED, seed=seed, prior=prior),
)
