"""A random stream for each trial: what is suggested does not depend on what was drawn before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from spinlock_dist.seeding import derive_seed


class PerTrialSeed(BaseSampler):
    """Gives every trial, and every parameter drawn independently, a random stream of its own.

    A suggestion then depends on the finished and running trials alone, not on what this process drew before: a trial
    that was interrupted in the middle of its suggestion is completed as it would have been. `make` builds the sampler
    of a stream.
    """

    def __init__(self, make: Callable[[int], BaseSampler]):
        self._make = make
        self._number = -1
        self._sampler: BaseSampler = make(0)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            self._number, self._sampler = trial.number, self._make(trial.number)
        return self._sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn jointly."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw jointly."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter by itself."""
        sampler = self._make(derive_seed(trial.number, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Prepare the sampler of the trial."""
        self._of(trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the sampler of the trial how it ended."""
        self._make(trial.number).after_trial(study, trial, state, values)
