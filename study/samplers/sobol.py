"""A scrambled Sobol sequence over a whole search space as a sampler for Optuna: even coverage, nothing learned.

Optuna's own takes its parameters from the first trial, so that those which did not count there are drawn at random, and
counts its points in the storage, so that a trial asked for twice, as after an interruption, moves all later ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from results.records.optuna_distributions import distributions, from_unit
from results.records.optuna_trials import PRIOR
from search_spaces import SearchSpace
from spinlock_dist.seeding import derive_seed


class SobolSampler(BaseSampler):
    """The trials that nobody has enqueued or lent take the points of the sequence, one after the other.

    Owen-scrambled by the seed (Owen 1997; Joe & Kuo 2008 for the directions, by scipy). Of a point that was enqueued in
    part the rest is random.
    """

    def __init__(self, space: SearchSpace, seed: int):
        self._space = space
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters, from the first trial on."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the trial's point, the same however often it is asked for."""
        dimensions = len(self._space.parameters)
        if "fixed_params" in trial.system_attrs:
            point = np.random.default_rng(derive_seed(self._seed, "sobol", trial.number)).random(dimensions)
        else:
            sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(self._seed))
            if earlier := _places_before(study, trial):
                sequence.fast_forward(earlier)
            point = sequence.random()[0]
        return {
            name: from_unit(parameter, unit)
            for (name, parameter), unit in zip(self._space.parameters.items(), point, strict=True)
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw by itself what an enqueued point left out of its range; every other parameter is drawn above."""
        rng = np.random.default_rng(derive_seed(self._seed, param_name, trial.number))
        return from_unit(self._space.parameters[param_name], rng.random())


def _places_before(study: Study, trial: FrozenTrial) -> int:
    """Return how many points of the sequence earlier trials took."""
    return sum(
        other.number < trial.number and "fixed_params" not in other.system_attrs and PRIOR not in other.user_attrs
        for other in study.get_trials(deepcopy=False)
    )
