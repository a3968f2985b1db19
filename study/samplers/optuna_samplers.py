"""Optuna's samplers, set up for studies of tens to hundreds of trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from study.samplers.kind import SamplerKind

POPULATION = 20
"""Trials of a generation of NSGA-II. Optuna's 50 would leave a study of a hundred trials with two generations."""


class OrderedNSGAII(NSGAIISampler):
    """With parents in one order: Optuna's own has another for the trial that selects them than for those after it."""

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The parents of a generation, by number."""
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


def _quietly(make: Callable[[int], BaseSampler]) -> Callable[[int], BaseSampler]:
    def quiet(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make(seed)

    return quiet


# One joint model of what always counts, and one of each group of parameters that count together (Bergstra et al. 2011).
# A constant liar for trials that still run is Optuna 5's default.
TPE = SamplerKind(make=_quietly(lambda seed: TPESampler(seed=seed, multivariate=True, group=True)), bounded=True)

# Parameters that count only sometimes are drawn at random: the model is of those that all trials have.
GP = SamplerKind(make=_quietly(lambda seed: GPSampler(seed=seed, warn_independent_sampling=False)))

# Deb et al. 2002.
NSGA2 = SamplerKind(
    make=_quietly(lambda seed: OrderedNSGAII(seed=seed, population_size=POPULATION)), single_objective=False
)

RANDOM = SamplerKind(make=lambda seed: RandomSampler(seed=seed), heeds_guards=False)

# Scrambled Sobol points (Owen 1997). One sampler for the whole search, since the points belong to one sequence. Optuna
# counts them in the storage as they are asked for: a trial asked for again after an interruption moves later ones.
QMC = SamplerKind(
    make=_quietly(lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)),
    heeds_guards=False,
    stateless=False,
)
