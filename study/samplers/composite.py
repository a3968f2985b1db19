"""Bayesian optimization of an objective that is a known function of many measured outputs.

Astudillo and Frazier 2019 ("Bayesian Optimization of Composite Functions"), 2021: what is modelled is what was
measured, and the objective, with its kinks, is computed from joint samples. Here the outputs, reduced to few principal
components, what of objective and constraints does not follow from them, and the cost share one Gaussian process kernel
over the conditional, mixed space. The acquisition is log noisy expected improvement under constraints (Letham et al.
2019; Ament et al. 2023) per second of expected cost, with trials that run among the points it has to improve on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm

from study.samplers.latent_gp import LatentGP
from study.samplers.mixed_space import MixedSpace
from study.samplers.prior import Prior

VALUE = "value"
"""Of what `Composite.compose` returns: the objective."""
MOST = 400
"""Trials that a model is of: the better half, and the others spread over the rest."""
COMPONENTS, EXPLAINED = 6, 0.98
"""Principal components of the outputs at most, and the share of their variance that is enough."""
SAMPLES = 64
ANCHORS = 10
"""Best trials that are to be improved on; which of them is best, samples differ about."""
RANDOM, NEAR, TOP = 400, 40, 8
"""Candidates drawn at random, neighbours of each of the best, and how many of the best have neighbours."""
WIDTHS = (0.1, 0.03, 0.01)
POOL = 120
"""Candidates of which those for several trials at once are chosen."""
SOFT = 0.02
"""By what share of its spread a step is rounded off, so that no candidate's improvement is exactly zero."""


def own_value(trial: FrozenTrial) -> float | None:
    """The value of a complete trial."""
    return trial.values[0] if trial.state == TrialState.COMPLETE else None


def no_outputs(trial: FrozenTrial) -> Mapping[str, float]:
    """None: then the objective itself is modelled."""
    return {}


def own_seconds(trial: FrozenTrial) -> float | None:
    """How long a trial took."""
    return trial.duration.total_seconds() if trial.duration is not None else None


def nothing(outputs: np.ndarray) -> Mapping[str, np.ndarray]:
    """Nothing follows from the outputs."""
    return {}


@dataclass(frozen=True)
class Composite:
    """What is measured in a trial, and what follows from it.

    A trial that was stopped may have a value and outputs too, as far as it got; the model knows how far that was, by
    its last intermediate value.
    """

    value: Callable[[FrozenTrial], float | None] = own_value
    """What is minimized; None if it is not known."""
    outputs: Callable[[FrozenTrial], Mapping[str, float]] = no_outputs
    """What was measured, by name: numbers of about one scale, such as log errors."""
    compose: Callable[[np.ndarray], Mapping[str, np.ndarray]] = nothing
    """From outputs `[..., C]` in the order of their names to `VALUE` `[...]`, and log(1 + c) of any constraint c by its
    name. What differs from what a trial was told, a constant for instance, is modelled beside it."""
    seconds: Callable[[FrozenTrial], float | None] | None = own_seconds
    """What a trial costs; if there is no such function all trials count as equally costly."""


class CompositeSampler(BaseSampler):
    """Suggests by a model of everything that finished trials measured; see the module and `Composite`.

    Its state is the study's storage and a random stream. The first trials are drawn at random, with a `prior` by that,
    until `startup` have a value. From then on a prior's scores are a part of the settings that all outputs may rise or
    fall with: trials decide whether they do, so that a prior that misleads does so only until then.
    Conditions among parameters are learned from the trials; a parameter that no trial had is drawn at random. Heeds
    `trial.set_constraint`, and keeps away from where trials end without a finite value. One objective, minimized:
    raises `ValueError` in a study of another kind.
    """

    def __init__(
        self,
        composite: Composite | None = None,
        *,
        seed: int | None = None,
        startup: int = 5,
        prior: Prior | None = None,
    ):
        self._composite = composite or Composite()
        self._prior = prior
        self._rng = np.random.default_rng(seed)
        self._startup = startup
        self._independent = RandomSampler(seed=seed)

    def reseed_rng(self) -> None:
        """Begin another random stream, as Optuna asks each thread of several to."""
        self._rng = np.random.default_rng()
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters that trials had, once enough of these have a value; also those that may not be asked for."""
        if study.directions != [StudyDirection.MINIMIZE]:
            said = ", ".join(direction.name.lower() for direction in study.directions)
            raise ValueError(f"CompositeSampler minimizes one objective; the directions of this study are: {said}")
        if "fixed_params" in trial.system_attrs:  # enqueued: nothing is to be suggested
            return {}
        known = _Known.of(study, self._composite)
        if len(known.trials) >= self._startup:
            return dict(MixedSpace(known.trials).distributions)
        return dict(self._prior.distributions) if self._prior is not None else {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The settings whose expected improvement for its cost is greatest."""
        if not search_space:
            return {}
        known = _Known.of(study, self._composite)
        if len(known.trials) < self._startup:
            assert self._prior is not None
            tried = [each.params for each in study.get_trials(deepcopy=False) if each.number != trial.number]
            return self._prior.first(self._rng, tried)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        model = Model(known, running, self._composite, self._rng, self._prior)
        row, _ = model.best_candidate()
        return model.space.decode(row)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw at random."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)


@dataclass(frozen=True)
class _Known:
    """The finished trials of a study that a model can be made of, the best first, with what they measured."""

    trials: list[FrozenTrial]
    values: np.ndarray
    """`[N]`."""
    feasible: np.ndarray
    """`[N]` whether complete, with every constraint kept."""
    failed: list[FrozenTrial]
    """Those that measured nothing."""

    @classmethod
    def of(cls, study: Study, composite: Composite) -> _Known:
        trials: list[FrozenTrial] = []
        values: list[float] = []
        failed: list[FrozenTrial] = []
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
            value = composite.value(trial)
            if value is not None and np.isfinite(value):
                trials.append(trial)
                values.append(value)
            else:
                failed.append(trial)
        feasible = np.array([_is_feasible(trial) for trial in trials], dtype=bool)
        order = np.lexsort((np.array(values), ~feasible)) if trials else np.array([], dtype=int)
        if len(order) > MOST:
            rest = np.sort(order[MOST // 2 :])
            order = np.concatenate([order[: MOST // 2], rest[np.linspace(0, len(rest) - 1, MOST // 2).astype(int)]])
        return cls([trials[at] for at in order], np.array(values)[order], feasible[order], failed[-MOST:])


def _is_feasible(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and all(excess <= 0 for excess in trial.constraints.values())


class Model:
    """What finished trials say of settings that were not tried."""

    def __init__(
        self,
        known: _Known,
        running: Sequence[FrozenTrial],
        composite: Composite,
        rng: np.random.Generator,
        prior: Prior | None = None,
    ):
        self.space = MixedSpace(known.trials)
        self._rng, self._prior = rng, prior
        rows = np.array([self.space.encode(trial.params) for trial in known.trials])
        self._columns = _Columns(known, composite)
        table, linear = self._columns.table, int(prior is not None)
        self._gp = LatentGP(self._up_to(rows, _reached(known.trials)), table, self._distances, linear)
        pending = [self.space.encode(trial.params) for trial in running if trial.params]
        best = rows[:ANCHORS] if known.feasible.any() else rows[np.argsort(known.values)[:ANCHORS]]
        self._best = best
        self._taken = np.array([*rows, *pending])
        self._anchors = self._at_the_end(np.array([*best, *pending]))
        self._failing = self._failures(rows, known.failed)
        self._draw()

    @classmethod
    def of(cls, study: Study, composite: Composite, rng: np.random.Generator) -> Model:
        """Of a study as it is; at least one trial has a value."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return cls(_Known.of(study, composite), running, composite, rng)

    def _distances(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        settings = self.space.distances(one[:, :-1], other[:, :-1])
        return np.concatenate([settings, ((one[:, None, -1] - other[None, :, -1]) ** 2)[None]])

    def _failures(self, rows: np.ndarray, failed: Sequence[FrozenTrial]) -> LatentGP | None:
        """A model of which settings measure nothing, 1, and which do, 0; None if all do."""
        if not failed:
            return None
        theirs = [self.space.encode(trial.params) for trial in failed]
        labels = np.repeat([1.0, 0.0], [len(theirs), len(rows)])
        return LatentGP(np.concatenate([theirs, rows]), labels[:, None], self.space.distances)

    def _up_to(self, rows: np.ndarray, reached: np.ndarray) -> np.ndarray:
        """Settings `[N, P]` as the Gaussian process is given them: with how far trials of them go, and their score."""
        if self._prior is None:
            return np.column_stack([rows, reached])
        return np.column_stack([rows, reached, self._prior.scores([self.space.decode(row) for row in rows])])

    def _at_the_end(self, rows: np.ndarray) -> np.ndarray:
        return self._up_to(rows, np.ones(len(rows)))

    def _draw(self) -> None:
        """Draw the outputs of the anchors, and what of them is best in each sample."""
        mean, covariance = self._gp.jointly(self._anchors)
        self._inverse = np.linalg.inv(_firm(covariance))
        self._away = self._samples(covariance)
        self._chance = self._rng.normal(size=(SAMPLES, 1, len(covariance)))
        value, excess, _ = self._columns.composed(mean + self._away)
        highest = value.max(axis=1) + value.std()
        self._reference = np.where(excess <= 0, value, highest[:, None]).min(axis=1)
        self._soft = SOFT * max(float(value.std()), 1e-6)

    def _samples(self, covariance: np.ndarray, count: int = SAMPLES) -> np.ndarray:
        """Draws `[count, B, K]` about zero with covariances `[K, B, B]`."""
        root = np.linalg.cholesky(_firm(covariance))
        normal_KSB = self._rng.normal(size=(len(root), count, root.shape[1]))
        return (normal_KSB @ root.transpose(0, 2, 1)).transpose(1, 2, 0)

    def expected_gain(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of candidates `[M, P]`: the log of the expected improvement `[M]`, and of the expected seconds `[M]`."""
        ends = self._at_the_end(rows)
        mean, variance, covariance = self._gp.beside(ends, self._anchors)
        pull = covariance @ self._inverse
        rest = np.maximum(variance - (pull * covariance).sum(axis=2), 1e-12)
        drawn = mean + np.einsum("kmb,sbk->smk", pull, self._away, optimize=True) + self._chance * np.sqrt(rest).T
        value, excess, cost = self._columns.composed(drawn)
        better = self._soft * np.logaddexp(0, (self._reference[:, None] - value) / self._soft)
        kept = 1 / (1 + np.exp(np.clip(excess / SOFT, -50, 50)))
        gain = np.log((better * kept).mean(axis=0) + 1e-300)
        if self._failing is not None:
            mean, variance, _ = self._failing.beside(rows, rows[:1])
            gain += norm.logcdf((0.5 - mean[:, 0]) / np.sqrt(variance[0] + 1e-4))
        return gain, cost.mean(axis=0)

    def best_candidate(self) -> tuple[np.ndarray, float]:
        """The settings `[P]` of greatest expected improvement for its cost, and that improvement."""
        rows, centres = self.space.random(self._rng, RANDOM), self._best
        best, gains, scores = centres[:0], np.zeros(0), np.zeros(0)
        for width in WIDTHS:
            around = self.space.near(self._rng, np.repeat(centres, NEAR, axis=0), width)
            rows = self._new(np.concatenate([rows, around]))
            gain, cost = self.expected_gain(rows)
            best, gains = np.concatenate([best, rows]), np.concatenate([gains, gain])
            scores = np.concatenate([scores, gain - cost])
            order = np.argsort(-scores, kind="stable")[:TOP]
            best, gains, scores = best[order], gains[order], scores[order]
            centres, rows = best, rows[:0]
        return best[0], float(np.exp(gains[0]))

    def gain_of(self, more: int) -> float:
        """By how much the best value is expected to fall if `more` well chosen settings are tried at once.

        They are chosen by one half of the samples and judged by the other, which their luck does not reach. Infinite
        where none that was tried is expected to keep the constraints.
        """
        around = (self.space.near(self._rng, self._best.repeat(POOL // 4, axis=0), width) for width in WIDTHS)
        pool = self._new(np.concatenate([self.space.random(self._rng, RANDOM), *around]))
        gain, _ = self.expected_gain(pool)
        rows = self._at_the_end(pool[np.argsort(-gain, kind="stable")[:POOL]])
        mean, covariance = self._gp.jointly(np.concatenate([self._anchors, rows]))
        drawn = mean + self._samples(covariance, 4 * SAMPLES)
        value, excess, _ = self._columns.composed(drawn)
        value = np.where(excess <= 0, value, np.inf)
        count = len(self._anchors)
        least, chosen = value[:, :count].min(axis=1), value[:, count:]
        known = np.isfinite(least)
        least, chosen = least[known], chosen[known]
        half, best = len(least) // 2, least.copy()
        if not half:
            return math.inf
        for _ in range(min(more, chosen.shape[1])):
            falls = np.maximum(best[:half, None] - chosen[:half], 0).mean(axis=0)
            best = np.minimum(best, chosen[:, falls.argmax()])
        return float((least - best)[half:].mean())

    def _new(self, rows: np.ndarray) -> np.ndarray:
        """Those of `rows` that were not tried, or all if there are none."""
        nearest = self.space.distances(rows, self._taken).sum(axis=0).min(axis=1)
        return rows[nearest > 1e-12] if (nearest > 1e-12).any() else rows


def _firm(covariance: np.ndarray) -> np.ndarray:
    """Covariances `[K, B, B]` with what rounding may have taken from them."""
    count = covariance.shape[1]
    size = np.trace(covariance, axis1=1, axis2=2)[:, None, None] / count
    return covariance + (1e-6 * size + 1e-12) * np.eye(count)


def _reached(trials: Sequence[FrozenTrial]) -> np.ndarray:
    """How far `[N]` trials went, 1 for those that are complete; on a logarithmic scale, since errors fall on one."""
    steps = np.array([max(trial.intermediate_values, default=0) for trial in trials], dtype=float)
    complete = np.array([trial.state == TrialState.COMPLETE for trial in trials])
    most = max(float(steps.max()), 1.0)
    return np.where(complete, 1.0, np.log1p(steps) / np.log1p(most))


@dataclass
class _Columns:
    """What the Gaussian process is of: a column for each component, for what is left of objective and constraints when
    what follows from the components is taken off, and for the log of the seconds."""

    known: _Known
    composite: Composite
    table: np.ndarray = field(init=False)
    """`[N, K]`."""

    def __post_init__(self) -> None:
        trials = self.known.trials
        outputs = self._outputs(trials)
        self._centre = outputs.mean(axis=0)
        _, sizes, axes = np.linalg.svd(outputs - self._centre, full_matrices=False)
        shares = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-300)
        count = min(COMPONENTS, int(np.searchsorted(shares, EXPLAINED)) + 1) if sizes.size and sizes[0] > 1e-9 else 0
        self._axes = axes[:count]
        components = (outputs - self._centre) @ self._axes.T
        follows = self._follows(components)
        columns = {VALUE: self.known.values}
        columns |= {
            name: np.array([_log_excess(trial.constraints.get(name, -1.0)) for trial in trials])
            for name in sorted({name for trial in trials for name in trial.constraints})
        }
        left = {name: _clipped(each - follows.get(name, 0.0)) for name, each in columns.items()}
        left["seconds"] = self._log_seconds(trials)
        self._constant = {name: float(each[0]) for name, each in left.items() if np.ptp(each) < 1e-9}
        varied = {name: each for name, each in left.items() if name not in self._constant or name == VALUE}
        self._place = {name: count + index for index, name in enumerate(varied)}
        self._names = list(columns)
        self._spread = {name: max(float(each.std()), 1e-3) for name, each in columns.items()}
        self.table = np.column_stack([components, *varied.values()])

    def _outputs(self, trials: Sequence[FrozenTrial]) -> np.ndarray:
        """The outputs `[N, C]`, clipped; `[N, 0]` unless all trials have the same ones."""
        measured = [self.composite.outputs(trial) for trial in trials]
        names = list(measured[0])
        if any(set(each) != set(names) for each in measured):
            return np.zeros((len(trials), 0))
        table = np.array([[each[name] for name in names] for each in measured]).reshape(len(trials), len(names))
        return _clipped(table) if np.isfinite(table).all() else np.zeros((len(trials), 0))

    def _log_seconds(self, trials: Sequence[FrozenTrial]) -> np.ndarray:
        if self.composite.seconds is None:
            return np.zeros(len(trials))
        seconds = np.array([self.composite.seconds(trial) or math.nan for trial in trials])
        known = np.isfinite(seconds) & (seconds > 0)
        logs = np.log(np.where(known, np.maximum(seconds, 1e-9), 1.0))
        return _clipped(np.where(known, logs, logs[known].mean() if known.any() else 0.0))

    def _follows(self, components: np.ndarray) -> Mapping[str, np.ndarray]:
        """What follows from components `[..., Q]`."""
        if not len(self._centre):
            return {}
        return self.composite.compose(self._centre + components @ self._axes)

    def composed(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From columns `[S, M, K]` the objective `[S, M]`, the greatest excess over a constraint, in units of that
        constraint's spread, and the log of the seconds."""
        follows = self._follows(drawn[..., : len(self._axes)])

        def column(name: str) -> np.ndarray:
            left = drawn[..., self._place[name]] if name in self._place else np.full(drawn.shape[:-1], 0.0)
            return left + (0.0 if name in self._place else self._constant[name]) + follows.get(name, 0.0)

        excess = [column(name) / self._spread[name] for name in self._names if name != VALUE]
        greatest = np.max(excess, axis=0) if excess else np.full(drawn.shape[:-1], -1.0)
        return column(VALUE), greatest, column("seconds")


def _log_excess(excess: float) -> float:
    """log(1 + c) of a constraint c, which keeps its sign; an infinite one counts as very large."""
    return math.log1p(min(max(excess, -0.99), 1e6))


def _clipped(table: np.ndarray) -> np.ndarray:
    """A table `[N, ...]` without the outliers that one wild trial is: within three times the span of nine tenths."""
    low, middle, high = np.quantile(table, [0.05, 0.5, 0.95], axis=0)
    span = 3 * (high - low)
    return np.where(span > 0, np.clip(table, middle - span, middle + span), table)
