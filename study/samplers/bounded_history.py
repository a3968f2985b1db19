"""A sampler that learns from a part of a long history, so that a suggestion does not take ever longer."""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Container, Sequence
from typing import Any, cast

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from spinlock_dist.seeding import derive_seed

MOST = 500
"""Finished trials up to which a sampler learns from all, and from so many beyond."""
BEST = 25
"""Of these, the best: as many as TPE takes for the good ones at most."""


class BoundedHistory(BaseSampler):
    """Shows a sampler the best `BEST` of the trials that ended, `MOST` in all, and every trial that runs.

    The others are a random sample of the rest, the same for the same trials: a trial's place in it is drawn by its
    number. TPE (Bergstra et al. 2011), for which this is, models the density of its good trials, at most 25, and that
    of all others. The first are the same trials as without this, the second is estimated from a sample.
    """

    def __init__(self, sampler: BaseSampler, most: int = MOST, best: int = BEST):
        self._sampler = sampler
        self._history = _History(most, best)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn jointly."""
        return self._sampler.infer_relative_search_space(self._history.part_of(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw jointly."""
        return self._sampler.sample_relative(self._history.part_of(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter by itself."""
        part = self._history.part_of(study)
        return self._sampler.sample_independent(part, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Prepare the sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the sampler how the trial ended."""
        self._sampler.after_trial(study, trial, state, values)


class _History:
    """The finished trials of one study that are shown; it looks at each once."""

    def __init__(self, most: int, best: int):
        self._most, self._best_count = most, best
        self._seen = 0
        self._open: list[int] = []
        self._best: list[tuple[_Reversed, FrozenTrial]] = []
        self._others: list[tuple[_Reversed, FrozenTrial]] = []
        self._ended = 0

    def part_of(self, study: Study) -> Study:
        """The study with the trials that are to be shown; itself while they are few, or with several objectives."""
        if len(study.directions) > 1:
            return study
        trials = study._get_trials(deepcopy=False, use_cache=True)
        self._follow(trials)
        if self._ended <= self._most:
            return study
        shown = [trial for _, trial in (*self._best, *self._others)] + [trials[number] for number in self._open]
        return cast(Study, _Part(study, sorted(shown, key=lambda trial: trial.number)))

    def _follow(self, trials: Sequence[FrozenTrial]) -> None:
        still = []
        for number in (*self._open, *range(self._seen, len(trials))):
            trial = trials[number]
            if not trial.state.is_finished():
                still.append(number)
            elif trial.state != TrialState.FAIL:
                self._ended += 1
                self._take(_light(trial))
        self._open, self._seen = still, len(trials)

    def _take(self, trial: FrozenTrial) -> None:
        fallen = _keep(self._best, (_Reversed(rank(trial)), trial), self._best_count)
        if fallen is not None:
            lot = derive_seed(fallen.number, "history")
            _keep(self._others, (_Reversed((lot, fallen.number)), fallen), self._most - self._best_count)


class _Reversed:
    """Orders a heap so that its top is what is to leave it first: the greatest."""

    def __init__(self, key: tuple[float, ...]):
        self._key = key

    def __lt__(self, other: _Reversed) -> bool:
        return other._key < self._key


def _keep(
    heap: list[tuple[_Reversed, FrozenTrial]], entry: tuple[_Reversed, FrozenTrial], most: int
) -> FrozenTrial | None:
    """Put a trial in a heap of so many, and return the one that there is no room for."""
    if len(heap) < most:
        heapq.heappush(heap, entry)
        return None
    return heapq.heappushpop(heap, entry)[1]


def rank(trial: FrozenTrial) -> tuple[float, ...]:
    """A finished trial's place, the best first, as TPE has it.

    Feasible ones that completed by value, those that were stopped by how far they came, those that break a constraint
    by how much; of equals the earlier.
    """
    if (violation := _violation(trial)) > 0:
        return 2, violation, 0.0, trial.number
    if trial.state == TrialState.COMPLETE:
        return 0, trial.values[0], 0.0, trial.number
    step = trial.last_step
    if step is None:
        return 1, 1.0, 0.0, trial.number
    value = trial.intermediate_values[step]
    return 1, -step, math.inf if math.isnan(value) else value, trial.number


def _violation(trial: FrozenTrial) -> float:
    return sum(value for value in trial.constraints.values() if value > 0)


def _light(trial: FrozenTrial) -> FrozenTrial:
    """A trial with its constraints added up: of them TPE wants the sum alone, a dozen times a suggestion."""
    summed = optuna.create_trial(state=TrialState.FAIL, constraints={"violated": _violation(trial)})
    found = copy.copy(trial)
    found.user_attrs, found.system_attrs = {}, summed.system_attrs
    return found


class _Part:
    """A study of which a sampler sees some trials."""

    def __init__(self, study: Study, trials: list[FrozenTrial]):
        self._study = study
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        found = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    get_trials = _get_trials
