"""Settings of a space that is known from its trials alone: numbers, choices, and what counts only sometimes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

INACTIVE = -1.0
"""Coordinate of a parameter that does not count."""


class MixedSpace:
    """The parameters of some trials as coordinates, with the conditions that can be learned from them.

    A row `[P]` has a coordinate a parameter: a number's place in [0, 1] on its scale, the index of a choice, or
    `INACTIVE`. A parameter is taken to count unless some choice rules it out: one that was tried, and with which the
    parameter never counted. Optuna asks for parameters as a study's code runs, and nothing else tells a sampler.
    """

    def __init__(self, trials: Sequence[FrozenTrial]):
        seen = [trial.distributions for trial in sorted(trials, key=lambda trial: trial.number)]
        counts: dict[str, int] = {}
        known: dict[str, BaseDistribution] = {}
        for distributions in seen:
            for name, distribution in distributions.items():
                counts[name] = counts.get(name, 0) + 1
                known[name] = distribution  # of a range that moved the latest
        # A condition's parent counts at least as often as what depends on it.
        self.names = sorted(known, key=lambda name: (-counts[name], name))
        self.distributions = {name: known[name] for name in self.names}
        self.choices = np.array([_choices(self.distributions[name]) for name in self.names])
        """The number of choices `[P]` of each parameter, 0 for a number."""
        self._ruled_out = self._conditions([self.encode(trial.params) for trial in trials])

    def _conditions(self, rows: Sequence[np.ndarray]) -> list[list[tuple[int, set[float]]]]:
        """For each parameter: earlier choices, and the coordinates of each that rule it out."""
        rows_NP = np.array(rows).reshape(len(rows), len(self.names))
        found: list[list[tuple[int, set[float]]]] = []
        for place in range(len(self.names)):
            active_N = rows_NP[:, place] != INACTIVE
            found.append([])
            for parent in np.flatnonzero(self.choices[:place]):
                out = set(rows_NP[:, parent]) - set(rows_NP[active_N, parent])
                if out:
                    found[-1].append((int(parent), out))
        return found

    def encode(self, params: Mapping[str, Any]) -> np.ndarray:
        """The coordinates `[P]` of settings; those outside the present ranges count as their nearest end."""
        known = self.distributions
        return np.array([_coordinate(known[name], params[name]) if name in params else INACTIVE for name in self.names])

    def decode(self, row: np.ndarray) -> dict[str, Any]:
        """The settings at coordinates `[P]`, of the parameters that count."""
        named = zip(self.names, row, strict=True)
        return {name: _value(self.distributions[name], float(at)) for name, at in named if at != INACTIVE}

    def random(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Independent settings `[count, P]`."""
        rows_NP = rng.random((count, len(self.names)))
        finite = self.choices > 0
        rows_NP[:, finite] = np.floor(rows_NP[:, finite] * self.choices[finite])
        return self._without_what_is_ruled_out(rows_NP, rng)

    def near(self, rng: np.random.Generator, rows: np.ndarray, width: float) -> np.ndarray:
        """A neighbour `[N, P]` of each row: about two parameters move, numbers by a normal step of `width`."""
        count, size = rows.shape
        moved = rng.random((count, size)) < min(1.0, 2 / size)
        moved[np.arange(count), rng.integers(size, size=count)] = True
        drawn = self.random(rng, count)
        step = np.abs(rows + rng.normal(0, width, (count, size)))
        step = 1 - np.abs(1 - np.minimum(step, 2))  # reflected at both ends
        numbers = (self.choices == 0) & (rows != INACTIVE)
        return self._without_what_is_ruled_out(np.where(moved, np.where(numbers, step, drawn), rows), rng)

    def _without_what_is_ruled_out(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows `[N, P]` with what their choices rule out switched off, and what now counts drawn."""
        rows = rows.copy()
        for place, conditions in enumerate(self._ruled_out):
            off = np.zeros(len(rows), dtype=bool)
            for parent, out in conditions:
                off |= np.isin(rows[:, parent], list(out))
            fresh = rng.random(len(rows))
            choices = self.choices[place]
            fresh = np.floor(fresh * choices) if choices else fresh
            kept = np.where(rows[:, place] == INACTIVE, fresh, rows[:, place])
            rows[:, place] = np.where(off, INACTIVE, _on_grid(self.distributions[self.names[place]], kept))
        return rows

    def distances(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Squared distances `[P, N, M]` along each parameter.

        Choices that differ are 1 apart, and so are a parameter that counts and one that does not.
        """
        ours, theirs = one.T[:, :, None], other.T[:, None, :]
        apart = np.where((ours == INACTIVE) == (theirs == INACTIVE), (ours - theirs) ** 2, 1.0)
        return np.where((self.choices > 0)[:, None, None], ours != theirs, apart)


def _choices(distribution: BaseDistribution) -> int:
    return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 0


def _coordinate(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        try:
            return float(distribution.to_internal_repr(value))
        except ValueError:  # none of the choices
            return INACTIVE
    low, high = _ends(distribution)
    at = math.log(max(value, 1e-300)) if _is_log(distribution) else float(value)
    return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5


def _value(distribution: BaseDistribution, at: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(at)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    value = low + at * (high - low)
    value = math.exp(value) if distribution.log else value
    if distribution.step is not None and not (distribution.log and isinstance(distribution, FloatDistribution)):
        value = distribution.low + distribution.step * round((value - distribution.low) / distribution.step)
    value = min(distribution.high, max(distribution.low, value))
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def _on_grid(distribution: BaseDistribution, at: np.ndarray) -> np.ndarray:
    """Coordinates `[N]` moved to those of values that there are: no two of them then stand for the same."""
    step = getattr(distribution, "step", None)
    if step is None:
        return at
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    values = low + at * (high - low)
    values = np.exp(values) if distribution.log else values
    values = distribution.low + step * np.round((values - distribution.low) / step)
    values = np.clip(values, distribution.low, distribution.high)
    return ((np.log(values) if distribution.log else values) - low) / (high - low)


def _ends(distribution: BaseDistribution) -> tuple[float, float]:
    """The ends on the scale of a number, half a step beyond those of a grid, so that all its values are as likely."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    half = (distribution.step or 0) / 2
    low, high = distribution.low - half, distribution.high + half
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def _is_log(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log
