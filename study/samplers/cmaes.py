"""CMA-ES as a sampler for Optuna: numbers only, under constraints, its state computed anew from the trials told.

Optuna's own ignores constraints, so that it would run after a low imbalance that breaks the guards; it learns nothing
from stopped trials, and it keeps its state in the storage as a pickle, which loading the study would execute.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from results.records.optuna_distributions import distributions, from_unit, to_unit
from search_spaces import Categorical, Parameter, SearchSpace
from spinlock_dist.seeding import derive_seed

FIRST_STEP = 0.3
"""Standard deviation of the first generation in units of each parameter's range (Hansen 2016, on initialization)."""


class Evolution:
    """Mean, step size and covariance of (mu/mu_w, lambda)-CMA-ES on the unit cube.

    Hansen 2016, *The CMA Evolution Strategy: A Tutorial* (arXiv:1604.00772), figure 6 and table 1, positive weights.
    """

    def __init__(self, dimensions: int):
        n = dimensions
        self.population = 4 + int(3 * math.log(n))
        ranks = np.arange(1, self.population // 2 + 1)
        weights = math.log((self.population + 1) / 2) - np.log(ranks)
        self.weights = weights / weights.sum()
        self.mu_eff = mu = 1 / float((self.weights**2).sum())
        self.c_sigma = (mu + 2) / (n + mu + 5)
        self.damping = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (n + 1)) - 1) + self.c_sigma
        self.c_path = (4 + mu / n) / (n + 4 + 2 * mu / n)
        self.c_one = 2 / ((n + 1.3) ** 2 + mu)
        self.c_mu = min(1 - self.c_one, 2 * (mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
        self.length = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # expected norm of a standard normal vector
        self.longest = math.sqrt(n) + 2 * n / (n + 2)
        self.mean = np.full(n, 0.5)
        self.sigma = FIRST_STEP
        self.covariance = np.eye(n)
        self.sigma_path = np.zeros(n)
        self.path = np.zeros(n)
        self.generation = 0

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return a point `[n]` within the cube; what falls outside is drawn again, and in the end moved to the edge."""
        root = self._root(0.5)
        for _ in range(100):
            point = self.mean + self.sigma * root @ rng.standard_normal(len(self.mean))
            if ((point >= 0) & (point <= 1)).all():
                break
        return np.clip(point, 0, 1)

    def learn(self, ranked: np.ndarray) -> None:
        """Take one generation of points `[population, n]`, best first.

        They need not have been drawn from this mean: a step longer than a drawn one would be is shortened
        (Hansen 2011, *Injecting external solutions into CMA-ES*, arXiv:1110.4181).
        """
        n, whiten = len(self.mean), self._root(-0.5)
        steps = (ranked[: len(self.weights)] - self.mean) / self.sigma
        lengths = np.linalg.norm(steps @ whiten, axis=1)
        steps *= np.minimum(1, self.longest / np.maximum(lengths, 1e-300))[:, None]
        step = self.weights @ steps
        self.mean = self.mean + self.sigma * step
        self.sigma_path = (1 - self.c_sigma) * self.sigma_path + (
            math.sqrt(self.c_sigma * (2 - self.c_sigma) * self.mu_eff) * whiten @ step
        )
        self.generation += 1
        norm = float(np.linalg.norm(self.sigma_path))
        unbiased = norm / math.sqrt(1 - (1 - self.c_sigma) ** (2 * self.generation))
        steady = float(unbiased < (1.4 + 2 / (n + 1)) * self.length)
        self.path = (1 - self.c_path) * self.path + (
            steady * math.sqrt(self.c_path * (2 - self.c_path) * self.mu_eff) * step
        )
        kept = 1 - self.c_one - self.c_mu + (1 - steady) * self.c_one * self.c_path * (2 - self.c_path)
        self.covariance = (
            kept * self.covariance
            + self.c_one * np.outer(self.path, self.path)
            + self.c_mu * (self.weights * steps.T) @ steps
        )
        self.sigma *= math.exp(min(1.0, self.c_sigma / self.damping * (norm / self.length - 1)))

    def _root(self, power: float) -> np.ndarray:
        """Return the covariance to a power, symmetric."""
        values, vectors = np.linalg.eigh((self.covariance + self.covariance.T) / 2)
        return (vectors * np.maximum(values, 1e-20) ** power) @ vectors.T


class CmaEsSampler(BaseSampler):
    """Every `population` trials that end are a generation, in the order in which they ended, whoever suggested them."""

    def __init__(self, space: SearchSpace, seed: int):
        self._space = space
        self._seed = seed
        self._random = RandomSampler(seed % 2**32)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters, from the first trial on."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Replay the trials told, and draw from what they lead to."""
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        ended = sorted(ended, key=lambda each: (each.datetime_complete, each.number))
        evolution = Evolution(len(self._space.parameters))
        for start in range(0, len(ended) - evolution.population + 1, evolution.population):
            ranked = sorted(ended[start : start + evolution.population], key=merit)
            evolution.learn(np.array([self._to_cube(each.params) for each in ranked]))
        point = evolution.draw(np.random.default_rng(derive_seed(self._seed, "cmaes", trial.number)))
        return {
            name: from_unit(parameter, unit)
            for (name, parameter), unit in zip(self._space.parameters.items(), point, strict=True)
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw at random; every parameter of the space is drawn by `sample_relative`."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _to_cube(self, params: dict[str, Any]) -> list[float]:
        numbers = {name: each for name, each in self._space.parameters.items() if not isinstance(each, Categorical)}
        return [to_unit(parameter, params[name]) for name, parameter in numbers.items()]


def merit(trial: FrozenTrial) -> tuple[float, ...]:
    """Return what orders ended trials, best first, as TPE orders them.

    Complete ones that keep every constraint, by value; stopped ones, those that got farther first, by their last
    report; then the others, by the sum of what they overstep.
    """
    overstepped = sum(max(0.0, value) for value in trial.constraints.values())
    if overstepped > 0:
        return 2.0, overstepped
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return 0.0, trial.value
    last = max(trial.intermediate_values, default=0)
    return 1.0, -float(last), trial.intermediate_values.get(last, math.inf)


def moves(parameter: Parameter) -> bool:
    """Return whether CMA-ES can move a parameter: a number that always counts."""
    return not isinstance(parameter, Categorical) and parameter.when is None
