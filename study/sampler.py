"""The samplers: which there are, which spaces each can search, and how it is set up."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial

from search_spaces import SearchSpace
from spinlock_dist.errors import ConfigError
from spinlock_dist.seeding import derive_seed
from study.cmaes import CmaEsSampler, moves
from study.config import StudyConfig
from study.distributions import distributions
from study.grid import LARGEST, GridSampler

POPULATION = 20
"""Trials of a generation of NSGA. Optuna's 50 would leave a study of a hundred trials with two generations."""


def make_sampler(config: StudyConfig, space: SearchSpace, stream: int) -> BaseSampler:
    """Return the sampler of a study, seeded.

    It draws from one of many streams of the seed (see `study.streams`). The samplers that count through a sequence of
    their own keep it whole instead.
    """
    whole = derive_seed(config.seed, "sampler") % 2**32
    stream = derive_seed(config.seed, "sampler", stream) % 2**32
    builders: dict[str, Callable[[], BaseSampler]] = {
        # One joint model of what always counts, and one of each group of parameters that count together.
        # Bergstra et al. 2011; a constant liar for parallel trials is Optuna 5's default.
        "tpe": lambda: TPESampler(seed=stream, multivariate=True, group=True),
        # Parameters that count only sometimes are drawn at random: the model is of those that all trials have.
        "gp": lambda: GPSampler(seed=stream, warn_independent_sampling=False),
        "cmaes": lambda: CmaEsSampler(space, whole),
        "nsga2": lambda: _NSGAII(seed=stream, population_size=POPULATION),
        "nsga3": lambda: _NSGAIII(seed=stream, population_size=POPULATION),
        "random": lambda: RandomSampler(seed=stream),
        "qmc": lambda: _SobolSampler(space, whole),
        "grid": lambda: GridSampler(space, whole),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return builders[config.sampler]()


def check_sampler(config: StudyConfig, space: SearchSpace) -> None:
    """Raise `ConfigError` if the sampler cannot search this space, or not for this objective."""
    name, fault = config.sampler, None
    if name in ("nsga2", "nsga3") and config.objective == "single":
        fault = "keeps a front of several objectives: add --objective pareto, or use tpe"
    elif name == "cmaes" and config.objective == "pareto":
        fault = "has one objective: leave --objective pareto out, or use tpe, gp, nsga2 or nsga3"
    elif name == "cmaes":
        fault = next((_unmoved(each, space) for each in space.parameters if not moves(space.parameters[each])), None)
    elif name == "grid":
        fault = _gridless(space)
    if fault is not None:
        raise ConfigError(f"--sampler {name}: {fault}")


def _unmoved(name: str, space: SearchSpace) -> str:
    what = "counts only sometimes" if space.parameters[name].when else "is a choice"
    return f"moves numbers that always count, and {name} {what}; fix it in the space, or use tpe"


def _gridless(space: SearchSpace) -> str | None:
    endless = next((name for name, parameter in space.parameters.items() if parameter.count() is None), None)
    if endless is not None:
        return f"tries every value, and {endless} is continuous; give it a step in the space, or use qmc or tpe"
    size = space.combinations() or 0
    return f"the space has {size:,} configs, at most {LARGEST:,} can be listed; use qmc" if size > LARGEST else None


class _NSGAII(NSGAIISampler):
    """With parents in one order: Optuna's own has another for the trial that selects them than for those after it."""

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


class _NSGAIII(NSGAIIISampler):
    """With parents in one order, as in `_NSGAII`."""

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


class _SobolSampler(QMCSampler):
    """Optuna's scrambled Sobol sequence over all parameters, those that count only sometimes included.

    By itself it would take its parameters from the first trial, and draw the others at random; and it would count
    what it was asked for, so that a trial that is asked for again after an interruption would be another one. Points
    that were enqueued use up nothing of the sequence.
    """

    def __init__(self, space: SearchSpace, seed: int):
        super().__init__(scramble=True, seed=seed, warn_independent_sampling=False)
        self._distributions = distributions(space)
        self._place = 0

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if "fixed_params" in trial.system_attrs else self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        earlier = study.get_trials(deepcopy=False)[: trial.number]
        self._place = sum("fixed_params" not in each.system_attrs for each in earlier)
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._place
