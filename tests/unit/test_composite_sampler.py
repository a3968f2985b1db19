"""The composite sampler by itself: its space, its Gaussian process, and what it suggests."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from results.records.optuna_distributions import distributions, suggest
from search_spaces import load_space, preset_names
from spinlock_dist.metrics.record import Metrics
from study.config import GuardsConfig, StudyConfig
from study.samplers import latent_gp
from study.samplers.build import make_sampler
from study.samplers.composite import VALUE, Composite, CompositeSampler, Model
from study.samplers.fvu_composite import compose
from study.samplers.latent_gp import LatentGP
from study.samplers.mixed_space import INACTIVE, MixedSpace
from study.search.constraints import Baseline, guards

SPACE = {
    "kind": CategoricalDistribution(("plain", "bent", "cut")),
    "x": FloatDistribution(0.01, 10, log=True),
    "y": FloatDistribution(-1, 1),
    "n": IntDistribution(1, 64, log=True),
    "step": FloatDistribution(0, 1, step=0.25),
    "bend": FloatDistribution(0, 1),
    "depth": IntDistribution(2, 8, step=3),
}
CONDITIONS = {"bend": ("bent",), "depth": ("bent", "cut")}


def counting(kind: str) -> list[str]:
    return [name for name in SPACE if kind in CONDITIONS.get(name, (kind,))]


@st.composite
def params(draw: st.DrawFn) -> dict:
    kind = draw(st.sampled_from(SPACE["kind"].choices))
    values = {"kind": kind, "x": draw(st.floats(0.01, 10)), "y": draw(st.floats(-1, 1))}
    values |= {"n": draw(st.integers(1, 64)), "step": draw(st.sampled_from([0, 0.25, 0.5, 0.75, 1.0]))}
    values |= {"bend": draw(st.floats(0, 1)), "depth": draw(st.sampled_from([2, 5, 8]))}
    return {name: values[name] for name in counting(kind)}


def ended(values: Mapping, value: float | None = 0.0, **more) -> FrozenTrial:
    known = {name: SPACE[name] for name in values}
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    return create_trial(params=dict(values), distributions=known, value=value, state=state, **more)


def one_of_each() -> list[FrozenTrial]:
    """A trial of every kind, from which all conditions can be learned."""
    middle = {"x": 1.0, "y": 0.0, "n": 8, "step": 0.5, "bend": 0.5, "depth": 5}
    return [
        ended({name: {"kind": kind, **middle}[name] for name in counting(kind)}) for kind in ("plain", "bent", "cut")
    ]


class TestMixedSpace:
    @given(params())
    def test_settings_are_what_their_coordinates_say(self, values: dict) -> None:
        space = MixedSpace(one_of_each())
        again = space.decode(space.encode(values))
        assert again.keys() == values.keys()
        assert all(again[name] == pytest.approx(value) for name, value in values.items())

    @given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 3.0]))
    def test_candidates_lie_in_range_and_have_what_counts(self, seed: int, width: float) -> None:
        space, rng = MixedSpace(one_of_each()), np.random.default_rng(seed)
        drawn = space.random(rng, 20)
        for row in np.concatenate([drawn, space.near(rng, drawn, width)]):
            values = space.decode(row)
            assert sorted(values) == sorted(counting(values["kind"]))
            for name, value in values.items():
                assert SPACE[name]._contains(SPACE[name].to_internal_repr(value)), (name, value)
                assert name in ("kind",) or type(value) is (int if isinstance(SPACE[name], IntDistribution) else float)

    def test_what_was_never_ruled_out_counts(self) -> None:
        space = MixedSpace([trial for trial in one_of_each() if trial.params["kind"] == "bent"])
        rows = space.random(np.random.default_rng(0), 50)
        assert (rows != INACTIVE).all()
        assert {space.decode(row)["kind"] for row in rows} == {"plain", "bent", "cut"}

    @pytest.mark.parametrize("name", preset_names())
    def test_conditions_of_every_space_are_learned_from_its_trials(self, name: str) -> None:
        space = load_space(name)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(400):  # of two choices that are never met together one would seem to rule out the other
            trial = study.ask()
            suggest(trial, space)
            study.tell(trial, 0.0)
        learned = MixedSpace(study.get_trials())
        assert set(learned.names) == set(distributions(space))
        for row in learned.random(np.random.default_rng(0), 100):
            values = learned.decode(row)
            assert {each for each in space.parameters if space.counts(each, values)} == values.keys()

    def test_a_range_that_moved_is_where_it_was_last(self) -> None:
        ranges = [FloatDistribution(0, high) for high in (1, 10, 2)]
        trials = [create_trial(params={"x": 0.5}, distributions={"x": each}, value=0.0) for each in ranges]
        for number, trial in enumerate(trials):
            trial.number = number
        assert MixedSpace([trials[2], trials[0], trials[1]]).distributions["x"] == ranges[2]

    def test_no_number_is_a_choice_as_others_are(self) -> None:
        choices = CategoricalDistribution((0.0, math.nan, 1.0))
        space = MixedSpace([create_trial(params={"c": 0.0}, distributions={"c": choices}, value=0.0)])
        assert space.encode({"c": float("nan")}) == [1.0]
        assert space.encode({"c": 2.0}) == [INACTIVE]

    @given(params(), params())
    def test_a_distance_is_zero_to_itself_alone_and_the_same_both_ways(self, one: dict, other: dict) -> None:
        space = MixedSpace(one_of_each())
        rows = np.array([space.encode(one), space.encode(other)])
        apart = space.distances(rows, rows)
        assert (apart[:, [0, 1], [0, 1]] == 0).all()
        assert (apart[:, 0, 1] == apart[:, 1, 0]).all()
        assert (apart <= 1).all()
        assert apart[space.names.index("kind"), 0, 1] == (one["kind"] != other["kind"])


def squared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one.T[:, :, None] - other.T[:, None, :]) ** 2


class LinearInTheLast(DotProduct):
    """Of the columns behind the first two."""

    def __call__(self, X, Y=None, eval_gradient=False):  # as scikit-learn calls them
        return super().__call__(X[:, 2:], None if Y is None else Y[:, 2:], eval_gradient)

    def diag(self, X):
        return super().diag(X[:, 2:])


class TestLatentGP:
    def fitted(self, columns: int = 3, rows: int = 40, linear: int = 0) -> tuple[LatentGP, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        x = rng.random((rows, 2 + linear))
        y = np.column_stack([np.sin(4 * x[:, 0] + k) + 0.05 * rng.normal(size=rows) for k in range(columns)])
        return LatentGP(x, y, squared, linear), x, y

    @pytest.mark.parametrize("linear", [0, 2])
    def test_the_posterior_is_that_of_scikit_learn(self, linear: int) -> None:
        gp, x, y = self.fitted(linear=linear)
        new = np.random.default_rng(1).random((7, 2 + linear))
        mean, variance, _ = gp.beside(new, new[:1])
        joint = gp.jointly(new)
        for column in range(3):
            amplitude = float(gp._amplitude[column] * gp._scale[column] ** 2)
            scales = np.r_[1 / np.sqrt(gp.weights), np.full(linear, 1e9)]
            kernel = ConstantKernel(amplitude, "fixed") * (
                Matern(scales, "fixed", 2.5) + LinearInTheLast(1e-9, "fixed")
            )
            kernel += WhiteKernel(amplitude * float(gp._noise[column]), "fixed")
            theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=1e-12).fit(
                x, y[:, column] - gp._mean[column]
            )
            expected, covariance = theirs.predict(new, return_cov=True)
            covariance -= amplitude * gp._noise[column] * np.eye(7)  # theirs is of a measurement, with noise
            np.testing.assert_allclose(mean[:, column], expected + gp._mean[column], atol=1e-6)
            np.testing.assert_allclose(variance[column], np.diag(covariance), atol=1e-6)
            np.testing.assert_allclose(joint[1][column], covariance, atol=1e-6)

    def test_the_gradient_is_that_of_the_density(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(latent_gp, "NOISES", np.array([0.01]))  # a jump from one to the next has no gradient
        _, x, y = self.fitted()
        apart, linear = squared(x, x), np.outer(x[:, 0], x[:, 0])

        def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
            return latent_gp._loss(at, apart, linear, y)

        for start in (np.zeros(2), np.array([-2.0, 3.0])):
            off = check_grad(lambda at: loss(at)[0], lambda at: loss(at)[1], start)
            assert off < 1e-3 * np.linalg.norm(loss(start)[1])

    def test_a_parameter_that_moves_nothing_gets_a_long_scale(self) -> None:
        gp, _, _ = self.fitted()
        assert gp.weights[0] > 20 * gp.weights[1]

    @pytest.mark.parametrize("y", [np.zeros((5, 2)), np.ones((1, 1)), 1e9 * np.arange(10.0).reshape(5, 2)])
    def test_outputs_without_variation_or_of_any_size_are_survived(self, y: np.ndarray) -> None:
        gp = LatentGP(np.linspace(0, 1, len(y))[:, None], y, squared)
        mean, variance, _ = gp.beside(np.array([[0.3]]), np.array([[0.5]]))
        assert np.isfinite(mean).all() and (variance > 0).all()


# ---------------------------------------------------------------- suggestions


def objective_of(outputs: np.ndarray) -> Mapping[str, np.ndarray]:
    return {VALUE: outputs.max(axis=-1) - outputs.min(axis=-1)}


COMPOSITE = Composite(outputs=lambda trial: trial.user_attrs["out"], compose=objective_of, seconds=None)


def measured(values: Mapping) -> dict[str, float]:
    """Four outputs that are alike at x = 0.3, y = 0.4 with `bent`, bend 0.2."""
    kind = {"plain": 1.0, "bent": 0.0, "cut": 0.5}[values["kind"]]
    x, y = math.log10(values["x"]) - math.log10(0.3), values["y"] - 0.4
    bend = values.get("bend", 0.9) - 0.2
    return {"a": x + kind, "b": y - kind, "c": -x + bend, "d": 0.3 * y - bend}


def play(sampler: optuna.samplers.BaseSampler, trials: int, at_once: int = 1) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    while len(study.trials) < trials:
        asked = [study.ask() for _ in range(at_once)]
        for trial in asked:
            values = {"kind": trial.suggest_categorical("kind", SPACE["kind"].choices)}
            for name in counting(values["kind"])[1:]:
                values[name] = trial._suggest(name, SPACE[name])
            trial.set_user_attr("out", measured(values))
        for trial in asked:
            out = np.array(list(trial.user_attrs["out"].values()))
            study.tell(trial, float(objective_of(out)[VALUE]))
    return study


def test_a_kinked_objective_is_minimized_with_fewer_trials_if_its_outputs_are_known() -> None:
    for seed in range(2):
        composite = play(CompositeSampler(COMPOSITE, seed=seed), 25).best_value
        others = (CompositeSampler(Composite(seconds=None), seed=seed), optuna.samplers.RandomSampler(seed=seed))
        assert composite < 0.5 * min(play(sampler, 25).best_value for sampler in others)


def test_the_same_seed_suggests_the_same_and_another_seed_something_else() -> None:
    said = [[trial.params for trial in play(CompositeSampler(COMPOSITE, seed=s), 14).trials] for s in (0, 0, 1)]
    assert said[0] == said[1] != said[2]


def test_trials_asked_for_at_once_are_apart() -> None:
    study = play(CompositeSampler(COMPOSITE, seed=0), 16)
    asked = []
    for number in range(4):
        study.sampler = CompositeSampler(COMPOSITE, seed=number)
        trial = study.ask()
        kind = trial.suggest_categorical("kind", SPACE["kind"].choices)
        asked.append([kind, *(trial._suggest(name, SPACE[name]) for name in counting(kind)[1:])])
    assert all(one != other for place, one in enumerate(asked) for other in asked[:place])


def history(trials: list[FrozenTrial]) -> optuna.Study:
    study = optuna.create_study()
    study.add_trials(trials)
    return study


def some(count: int, seed: int = 0) -> list[dict]:
    space = MixedSpace(one_of_each())
    return [space.decode(row) for row in space.random(np.random.default_rng(seed), count)]


def ask(trials: list[FrozenTrial], composite: Composite = COMPOSITE) -> dict:
    model = Model.of(history(trials), composite, np.random.default_rng(0))
    return model.space.decode(model.best_candidate()[0])


def told(values: Mapping, **more) -> FrozenTrial:
    out = measured(values)
    return ended(values, float(objective_of(np.array(list(out.values())))[VALUE]), user_attrs={"out": out}, **more)


def failed(values: Mapping) -> FrozenTrial:
    known = {name: SPACE[name] for name in values}
    return create_trial(params=dict(values), distributions=known, state=TrialState.FAIL)


def test_a_failed_trial_teaches_nothing() -> None:
    trials = [told(values) for values in some(15)]
    assert ask(trials) == ask(trials + [failed(values) for values in some(5, seed=1)])


def ends() -> st.SearchStrategy:
    number = st.one_of(st.floats(-5, 5), st.sampled_from([0.0, math.nan, math.inf, -math.inf, 1e300]))
    return st.lists(
        st.tuples(params(), number, st.one_of(st.none(), st.floats(-3, 3), st.just(math.inf))), min_size=3, max_size=12
    )


@settings(max_examples=25, deadline=None)
@given(ends())
def test_any_history_gives_a_suggestion_in_range(trials: list) -> None:
    """Outputs that are not finite, constant or missing; stopped trials, with and without a value; any constraints."""
    composite = Composite(
        value=lambda trial: trial.user_attrs["value"],
        outputs=lambda trial: trial.user_attrs["out"],
        compose=objective_of,
    )
    known = []
    for place, (values, number, value) in enumerate(trials):
        out = {} if number == 1e300 else {"a": number, "b": 0.5}
        told = value if value is not None and math.isfinite(value) else None
        trial = ended(values, told, constraints={"kept": (-1.0, 0.5, math.inf, -math.inf)[place % 4]})
        trial.user_attrs = {"out": out, "value": value}
        trial.intermediate_values = {} if place % 2 else {place + 1: 1.0}
        known.append(trial)
    study = optuna.create_study(sampler=CompositeSampler(composite, seed=0, startup=2))
    study.add_trials(known)
    trial = study.ask()
    kind = trial.suggest_categorical("kind", SPACE["kind"].choices)
    for name in counting(kind)[1:]:
        value = trial._suggest(name, SPACE[name])
        assert SPACE[name]._contains(SPACE[name].to_internal_repr(value))


def search_with_constraint(sampler: optuna.samplers.BaseSampler) -> list[float]:
    """Where it looked for the least x above 0.5."""
    study = optuna.create_study(sampler=sampler)
    for _ in range(25):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("above", 0.5 - x)
        study.tell(trial, x)
    return [trial.params["x"] for trial in study.trials]


def test_constraints_are_heeded() -> None:
    looked = search_with_constraint(CompositeSampler(seed=0))
    assert sum(x >= 0.48 for x in looked[10:]) > 10
    assert min(x for x in looked if x >= 0.5) < 0.52


def test_where_trials_measured_nothing_is_avoided() -> None:
    study = optuna.create_study()
    for number in range(30):
        study.sampler = CompositeSampler(seed=number, startup=10)
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("diverged", float(x < 0.5))
        study.tell(trial, state=TrialState.PRUNED) if x < 0.5 else study.tell(trial, x)
    late = [trial.params["x"] for trial in study.trials[18:]]
    assert sum(x < 0.45 for x in late) <= 4  # of what is best by the values alone
    assert study.best_value < 0.51


def test_of_equals_the_cheaper_is_tried() -> None:
    def took(trial: FrozenTrial) -> float:
        return 10.0 if trial.params["kind"] == "plain" else 1.0

    cheap = []
    for seconds in (took, None):
        study = optuna.create_study()
        for number in range(40):
            study.sampler = CompositeSampler(Composite(seconds=seconds), seed=number, startup=12)
            trial = study.ask()
            trial.suggest_categorical("kind", ("plain", "cut"))
            study.tell(trial, 1 + (trial.suggest_float("y", -1, 1) - 0.2) ** 2)
        cheap.append(sum(trial.params["kind"] == "cut" for trial in study.trials[15:]))
    assert cheap[0] >= 16 > cheap[1]


def test_a_stopped_trial_counts_as_far_as_it_got() -> None:
    composite = Composite(value=lambda trial: trial.user_attrs["v"], seconds=None)
    trials = []
    for place, y in enumerate(np.linspace(-1, 1, 21)):
        stopped = y > 0  # what is stopped has twice the value that it would have ended with
        value = (2.0 if stopped else 1.0) * (1 + (y - 0.5) ** 2)
        trial = ended({"kind": "plain", "x": 1.0, "y": float(y), "n": 8, "step": 0.5}, None if stopped else value)
        trial.user_attrs = {"v": value}
        trial.intermediate_values = {5: 1.0} if stopped else {5: 1.0, 20: 1.0}
        trials.append(trial)
        if place % 5 == 0 and stopped:
            again = ended(trial.params, value / 2)
            again.user_attrs, again.intermediate_values = {"v": value / 2}, {5: 1.0, 20: 1.0}
            trials.append(again)
    assert ask(trials, composite)["y"] == pytest.approx(0.5, abs=0.25)


# ---------------------------------------------------------------- in a study of Optuna alone


@pytest.mark.parametrize("directions", [["maximize"], ["minimize", "minimize"]])
def test_a_study_that_does_not_minimize_one_objective_is_refused(directions: list[str]) -> None:
    trial = optuna.create_study(directions=directions, sampler=CompositeSampler(seed=0)).ask()
    with pytest.raises(ValueError, match=f"minimizes one objective; the directions.*: {', '.join(directions)}$"):
        trial.suggest_float("x", 0, 1)


def stopped(trial: optuna.Trial) -> float:
    raise optuna.TrialPruned


@pytest.mark.parametrize("end", [lambda trial: math.inf, lambda trial: -math.inf, stopped])
def test_where_trials_end_without_a_finite_value_is_avoided(end: Callable[[optuna.Trial], float]) -> None:
    study = optuna.create_study(sampler=CompositeSampler(seed=0))
    study.optimize(lambda trial: x if (x := trial.suggest_float("x", 0, 1)) > 0.5 else end(trial), n_trials=30)
    xs = [trial.params["x"] for trial in study.trials]
    assert len(set(xs)) == len(xs)
    assert 0.5 < min(x for x in xs if x > 0.5) < 0.51


def test_one_sampler_goes_on_in_its_random_stream() -> None:
    """What it suggests to a study that knows no more than before differs; on several threads as well."""
    study = optuna.create_study(sampler=CompositeSampler(seed=0))
    study.add_trials(play(CompositeSampler(seed=1), 12).trials)
    asked = []
    for _ in range(3):
        trial = study.ask({"y": SPACE["y"]})
        asked.append(trial.params["y"])
        study.tell(trial, state=TrialState.FAIL)
    assert len(set(asked)) == 3
    barrier = threading.Barrier(4)

    def at_once(trial: optuna.Trial) -> float:
        barrier.wait()
        return trial.suggest_float("y", -1, 1) ** 2

    study.optimize(at_once, n_trials=8, n_jobs=4)
    assert len({trial.params["y"] for trial in study.trials[-8:]}) == 8


def test_no_trial_at_all_suffices_to_begin_with() -> None:
    assert len(play(CompositeSampler(COMPOSITE, seed=0, startup=0), 6).trials) == 6


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan, None])
def test_what_a_trial_took_may_be_unknown(seconds: float | None) -> None:
    study = optuna.create_study(
        sampler=CompositeSampler(Composite(seconds=lambda trial: seconds if trial.number % 2 else 3.0), seed=0)
    )
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=8)
    assert study.best_value < 0.05


# ---------------------------------------------------------------- in a study


def test_guards_follow_from_the_errors_up_to_a_constant(make_metrics: Callable[..., Metrics]) -> None:
    baseline = Baseline(make_metrics(0.5, 0.2, 0.1))
    fvus = np.random.default_rng(0).uniform(0.05, 0.8, (20, 3))
    follows = compose(np.log(fvus))
    for name in ("fvu_worst", "fvu_mean"):
        excess = [guards(make_metrics(*each), baseline, GuardsConfig())[name] for each in fvus]
        left = np.log1p(excess) - follows[name]
        np.testing.assert_allclose(left, left[0], atol=1e-9)
    values = [make_metrics(*each).log10_imbalance for each in fvus]
    np.testing.assert_allclose(follows[VALUE], values, atol=1e-9)


def test_a_deterministic_study_has_no_regard_to_what_trials_took() -> None:
    def composite(deterministic: bool) -> Composite:
        sampler = make_sampler(StudyConfig(name="n", sampler="composite", deterministic=deterministic))
        return sampler._make(0)._composite

    assert composite(True).seconds is None
    assert composite(False).seconds is not None
