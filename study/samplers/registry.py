"""The samplers: which there are, which spaces each can search, and how it is set up."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial

from search_spaces import SearchSpace
from spinlock_dist.errors import ConfigError
from spinlock_dist.seeding import derive_seed
from study.config import StudyConfig
from study.samplers.cmaes import CmaEsSampler, moves
from study.samplers.grid import LARGEST, GridSampler
from study.samplers.per_trial_seed import PerTrialSeed
from study.samplers.sobol import SobolSampler

POPULATION = 20
"""Trials of a generation of NSGA. Optuna's 50 would leave a study of a hundred trials with two generations."""


def make_sampler(config: StudyConfig, space: SearchSpace) -> BaseSampler:
    """Return the sampler of a study, seeded.

    None keeps anything of its own that a resumed study would lack: Optuna's draw every trial from a stream of its own,
    ours compute what they know from the trials told, whenever they are asked.
    """
    whole = derive_seed(config.seed, "sampler") % 2**32
    if config.sampler == "cmaes":
        return CmaEsSampler(space, whole)
    if config.sampler == "qmc":
        return SobolSampler(space, whole)
    if config.sampler == "grid":
        return GridSampler(space, whole)
    return PerTrialSeed(lambda stream: _of_optuna(config.sampler, derive_seed(config.seed, "sampler", stream) % 2**32))


def _of_optuna(name: str, seed: int) -> BaseSampler:
    builders: dict[str, Callable[[], BaseSampler]] = {
        # One joint model of what always counts, and one of each group of parameters that count together.
        # Bergstra et al. 2011; a constant liar for parallel trials is Optuna 5's default.
        "tpe": lambda: TPESampler(seed=seed, multivariate=True, group=True),
        # Parameters that count only sometimes are drawn at random: the model is of those that all trials have.
        "gp": lambda: GPSampler(seed=seed, warn_independent_sampling=False),
        "nsga2": lambda: _NSGAII(seed=seed, population_size=POPULATION),
        "nsga3": lambda: _NSGAIII(seed=seed, population_size=POPULATION),
        "random": lambda: RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return builders[name]()


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


FIRST_GENERATION = {sampler._get_generation_key(): 0 for sampler in (_NSGAII, _NSGAIII)}
"""System attributes of a trial that make it one of NSGA's first generation, from which the second is bred."""
