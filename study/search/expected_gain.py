"""What more trials would be expected to gain, by the model of the composite sampler, whatever suggested the trials."""

from __future__ import annotations

import math

import numpy as np
import optuna
from optuna.trial import TrialState

from study.samplers.composite import Model
from study.samplers.fvu_composite import UNTIMED

MORE = 12
"""Trials that are looked ahead."""
LEAST = 15
"""Complete trials below which a model knows too little to end a search."""


def expected_gain(study: optuna.Study) -> float | None:
    """The share by which `MORE` more trials would be expected to lower the least imbalance, chance left out.

    None if nothing can be said: several objectives, fewer than `LEAST` complete trials, or none that keeps the guards.
    The same trials give the same answer.
    """
    complete = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if len(study.directions) > 1 or complete < LEAST:
        return None
    fall = Model.of(study, UNTIMED, np.random.default_rng(complete)).gain_of(MORE)
    return 1 - 10**-fall if math.isfinite(fall) else None


def in_words(gain: float) -> str:
    """E.g. `12 more trials would be expected to gain 1.3%`."""
    return f"{MORE} more trials would be expected to gain {gain:.1%}"
