"""What trials recorded on other data say of settings: where to begin, and what is likely to be good.

The errors of categories of other data cannot be compared, so what is kept of a recorded trial is its place among the
trials on the same data, as a normal score: the standard normal quantile of its rank by what a sampler was told
(Salinas, Shen and Perrone 2020, "A Quantile-based Approach for Hyperparameter Transfer Learning"). Those that broke a
guard are last.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import create_trial

from results.records.optuna_distributions import distributions
from results.records.settings import STRATEGY
from search_spaces import Categorical, SearchSpace
from search_spaces.space import setting_of, space_of
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, did_you_mean
from study.samplers.latent_gp import LatentGP
from study.samplers.mixed_space import MixedSpace

FOLDER = Path(__file__).parent / "priors"
NEWEST = "2026-11-28"
"""The prior of a new study. What is in a file never changes: studies that began with it go on with it."""
KEENNESS = 2.0
"""How much likelier settings to begin with are if their score is lower by 1: by e to the power of this."""


@dataclass(frozen=True)
class Recorded:
    """A file of recorded trials: the same settings on several tables of data."""

    space: SearchSpace
    """That the settings were drawn from."""
    settings: list[dict[str, Any]]
    """Of each point, those that count."""
    scores: dict[str, list[float]]
    """Of each point by table, lower is better."""

    def without(self, tables: Collection[str]) -> Recorded:
        """The same as if `tables` had not been recorded."""
        return replace(self, scores={name: each for name, each in self.scores.items() if name not in tables})


def names() -> list[str]:
    """Of the recorded priors that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@lru_cache
def read_recorded(name: str) -> Recorded:
    """Read the recorded trials called `name`. Raises `ConfigError` if this version of the package has none."""
    if name not in names():
        raise ConfigError(
            f"prior '{name}': this version has none of that name{did_you_mean(name, names())} "
            f"(it has {', '.join(names())}; 'none' does without)"
        )
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    columns: dict[str, list[Any]] = content["settings"]
    settings = [
        {setting: value for setting, value in zip(columns, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]
    return Recorded(space_of({"parameters": content["parameters"], "fixed": {}}, name), settings, content["scores"])


def recorded_prior(recorded: Recorded, space: SearchSpace, base: TrialConfig) -> RecordedPrior | None:
    """What is recorded as it concerns the search of `space` about `base`; None if that is nothing.

    It is if the space varies the strategy among several that were recorded.
    """
    ours, theirs = space.parameters.get(STRATEGY), recorded.space.parameters[STRATEGY]
    if not isinstance(ours, Categorical) or sum(map(theirs.contains, ours.choices)) < 2:
        return None
    return RecordedPrior(recorded, space, space.to_config(base, {}))


class RecordedPrior:
    """Recorded trials as a `study.samplers.prior.Prior` of a study's space.

    A recorded parameter that the space does not vary counts as the config has it, one that was not recorded counts for
    nothing, a choice that was not recorded is like no other, and a number out of the recorded range like its end.
    """

    def __init__(self, recorded: Recorded, space: SearchSpace, config: TrialConfig):
        self._recorded = recorded
        self._given = {name: setting_of(config, name) for name in recorded.space.parameters}
        known = distributions(space)
        self.distributions: dict[str, BaseDistribution] = {
            name: known[name] for name in space.parameters if name in recorded.space.parameters
        }
        self._first = list(_fitting(recorded.settings, space))

    def __str__(self) -> str:
        return f"how {len(self._recorded.settings)} recorded settings did on {', '.join(self._recorded.scores)}"

    @cached_property
    def _space(self) -> MixedSpace:
        known = distributions(self._recorded.space)
        return MixedSpace(
            [
                create_trial(params=each, distributions={name: known[name] for name in each}, value=0.0)
                for each in self._recorded.settings
            ]
        )

    @cached_property
    def _gp(self) -> LatentGP:
        scores = np.array([*self._recorded.scores.values()]).T
        order = np.argsort(scores.mean(axis=1), kind="stable")
        rows = np.array([self._space.encode(each) for each in self._recorded.settings])
        return LatentGP(rows[order], scores[order], self._space.distances)

    @cached_property
    def _first_scores(self) -> np.ndarray:
        return self.scores(self._first)

    def scores(self, settings: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The expected normal score `[M]` of each, the mean over tables."""
        rows = np.array([self._space.encode(self._counting(each)) for each in settings])
        mean, _, _ = self._gp.beside(rows, rows[:1])
        return mean.mean(axis=1)

    def _counting(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Of settings and what is given beside them, what counts in the recorded space."""
        values: dict[str, Any] = {}
        for name in self._recorded.space.parameters:  # parents come first
            if self._recorded.space.counts(name, values):
                values[name] = settings.get(name, self._given[name])
        return values

    def first(self, rng: np.random.Generator, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Recorded settings that were not tried, drawn the likelier the better they are expected to be."""
        left = [place for place, each in enumerate(self._first) if each not in tried]
        if not left:
            return {}
        scores = self._first_scores[left]
        chances = np.exp(-KEENNESS * (scores - scores.min()))
        return self._first[left[rng.choice(len(left), p=chances / chances.sum())]]


def _fitting(recorded: Sequence[Mapping[str, Any]], space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield what of recorded settings lies in `space`; what else it varies is for Optuna to draw."""
    for each in recorded:
        fitting = {name: value for name, value in each.items() if _contains(space, name, value)}
        if STRATEGY in fitting:
            yield fitting


def _contains(space: SearchSpace, name: str, value: Any) -> bool:
    return name in space.parameters and space.parameters[name].contains(value)
