"""Grid search as a sampler for Optuna: every config of a finite space once, in an order shuffled by the seed.

Optuna's own takes no points that were enqueued in part, as the initial trials are, knows no conditions, and ends the
study by an exception where trials are asked for and told.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from results.records.optuna_distributions import distributions
from search_spaces import Categorical, Parameter, SearchSpace

LARGEST = 100_000
"""Configs in a grid; more would never be tried, and take long to list."""

Key = tuple[tuple[str, int], ...]


class GridSampler(BaseSampler):
    """Suggests what no trial has tried. When all is tried it begins again, so ask `left` before."""

    def __init__(self, space: SearchSpace, seed: int):
        self._space = space
        self._points = {self._key(values): values for values in space.grid()}
        self._order = list(self._points)
        random.Random(seed).shuffle(self._order)

    def left(self, study: Study) -> int:
        """Return how many points no trial has tried yet; one that waits to go on still has to."""
        begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
        return len(self._points.keys() - self._keys(begun))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters, from the first trial on."""
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point that no trial has tried."""
        tried = self._keys(other for other in study.get_trials(deepcopy=False) if other.number != trial.number)
        return self._points[next((key for key in self._order if key not in tried), self._order[0])]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the first value: of a parameter that counts because of a point enqueued in part."""
        return (self._space.parameters[param_name].values() or ())[0]

    def _keys(self, trials: Iterable[FrozenTrial]) -> set[Key]:
        return {self._key(trial.params) for trial in trials if trial.params}

    def _key(self, values: dict[str, Any]) -> Key:
        """Return the places of `values` on the grid; values themselves may differ in the last bit."""
        return tuple(
            (name, _place(parameter, values[name]))
            for name, parameter in self._space.parameters.items()
            if name in values
        )


def _place(parameter: Parameter, value: Any) -> int:
    if isinstance(parameter, Categorical):
        return next(place for place, each in enumerate(parameter.choices) if (type(each), each) == (type(value), value))
    return round((value - parameter.low) / (parameter.step or 1))
