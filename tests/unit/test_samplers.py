"""The samplers by themselves: seeds, what each refuses, and that those of our own search."""

from __future__ import annotations

import random

import numpy as np
import optuna
import pytest

from results.records.optuna_distributions import distributions, from_unit, suggest, to_unit
from search_spaces import Categorical, Float, Int, Parameter, SearchSpace, load_space, preset_names
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.samplers.cmaes import CmaEsSampler, Evolution, merit
from study.samplers.grid import GridSampler
from study.samplers.registry import check_sampler, make_sampler
from study.search.constraints import COUNT


def space_of(**parameters: Parameter) -> SearchSpace:
    return SearchSpace(name="s", description="", parameters=parameters)


def draws(space: SearchSpace, seed: int = 0, count: int = 5, sampler: str = "tpe") -> list[dict]:
    config = StudyConfig(name="n", sampler=sampler, seed=seed)
    study = optuna.create_study(sampler=make_sampler(config, space))
    return [suggest(study.ask(), space) for _ in range(count)]


@pytest.mark.parametrize("name", preset_names())
def test_every_suggestion_is_a_config(name):
    space = load_space(name)
    study = optuna.create_study(sampler=make_sampler(StudyConfig(name="n"), space))
    for _ in range(20):
        trial = study.ask()
        values = suggest(trial, space)
        assert trial.params == values
        assert all(space.counts(name, values) == (name in values) for name in space.parameters)
        assert space.to_config(TrialConfig(), values) is not None
        study.tell(trial, 1.0)


def test_each_kind_of_parameter_is_drawn_from_its_range():
    space = space_of(
        a=Float(low=0.1, high=10, log=True),
        b=Float(low=0, high=1, step=0.25),
        c=Int(low=2, high=8, step=3),
        d=Categorical(choices=("x", None, True)),
    )
    for sampler in ("tpe", "random", "qmc"):
        drawn = draws(space, count=40, sampler=sampler)
        assert all(0.1 <= values["a"] <= 10 for values in drawn)
        assert {values["b"] for values in drawn} == {0, 0.25, 0.5, 0.75, 1}
        assert {values["c"] for values in drawn} == {2, 5, 8}
        assert {values["d"] for values in drawn} == {"x", None, True}


def test_the_stream_is_seeded_and_goes_on_after_a_resume():
    space = load_space("adaptive_compression")
    assert draws(space) == draws(space)
    assert draws(space) != draws(space, seed=1)
    study, drawn = optuna.create_study(), []
    for _ in range(5):
        study.sampler = make_sampler(StudyConfig(name="n"), space)  # as if resumed at every trial
        drawn.append(suggest(study.ask(), space))
    assert drawn == draws(space)
    assert len({values["training.learning_rate"] for values in drawn}) == 5


# ---------------------------------------------------------------- what is refused

NUMBERS = space_of(a=Float(low=0, high=1), b=Int(low=1, high=9, log=True))
STEPS = space_of(a=Float(low=0, high=1, step=0.5), b=Categorical(choices=("x", "y")))


@pytest.mark.parametrize(
    ("sampler", "objective", "space", "message"),
    [
        ("nsga2", "single", NUMBERS, "--sampler nsga2: keeps a front of several objectives: add --objective pareto"),
        ("nsga3", "single", NUMBERS, "--sampler nsga3: keeps a front of several objectives"),
        ("cmaes", "pareto", NUMBERS, "--sampler cmaes: has one objective"),
        ("cmaes", "single", STEPS, "--sampler cmaes: moves numbers that always count, and b is a choice; fix it"),
        (
            "cmaes",
            "single",
            space_of(b=Categorical(choices=("x", "y")), a=Int(low=1, high=2, when={"b": ("x",)})),
            "and b is a choice",
        ),
        ("grid", "single", NUMBERS, "--sampler grid: tries every value, and a is continuous; give it a step"),
        (
            "grid",
            "pareto",
            space_of(a=Int(low=1, high=400), b=Int(low=1, high=400)),
            "160,000 configs, at most 100,000",
        ),
    ],
)
def test_a_sampler_that_cannot_search_the_space_is_refused_in_a_line(sampler, objective, space, message):
    with pytest.raises(ConfigError) as error:
        check_sampler(StudyConfig(name="n", sampler=sampler, objective=objective), space)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc"])
@pytest.mark.parametrize("objective", ["single", "pareto"])
def test_the_others_search_every_preset(sampler, objective):
    for name in preset_names():
        check_sampler(StudyConfig(name="n", sampler=sampler, objective=objective), load_space(name))


# ---------------------------------------------------------------- GP


@pytest.mark.parametrize("objective", ["single", "pareto"])
def test_gp_learns_from_complete_trials_under_constraints(objective):
    """The less a, the better, and below 0.5 it is infeasible: who has learned that suggests what is just above."""
    count, space = COUNT[objective], space_of(a=Float(low=0, high=1), b=Float(low=0, high=1))
    sampler = make_sampler(StudyConfig(name="n", sampler="gp", objective=objective), space)
    study = optuna.create_study(directions=["minimize"] * count, sampler=sampler)
    for index in range(12):
        point = {"a": (index % 4 + 0.5) / 4, "b": (index % 3) / 2}
        values = [point["a"], point["a"] + 0.1, point["a"] ** 2][:count]
        study.add_trial(
            optuna.create_trial(
                params=point,
                distributions=distributions(space),
                values=values,
                constraints={"g": 0.5 - point["a"], "h": -1.0},
            )
        )
    assert 0.4 < suggest(study.ask(), space)["a"] < 0.65


# ---------------------------------------------------------------- numbers and the unit interval


@pytest.mark.parametrize(
    "parameter",
    [
        Float(low=-1, high=3),
        Float(low=1e-3, high=10, log=True),
        Float(low=0.1, high=0.7, step=0.2),
        Int(low=-2, high=7, step=3),
        Int(low=1, high=12, log=True),
    ],
)
def test_the_unit_interval_maps_to_numbers_and_back(parameter):
    for unit in np.linspace(0, 1, 101):
        value = from_unit(parameter, float(unit))
        assert parameter.contains(value)
        assert from_unit(parameter, to_unit(parameter, value)) == pytest.approx(value, rel=1e-12)
    assert (from_unit(parameter, 0.0), from_unit(parameter, 1.0)) == (parameter.low, parameter.high)


def test_every_value_of_a_finite_range_has_an_equal_part_of_the_unit_interval():
    for parameter in (
        Float(low=0.1, high=0.7, step=0.2),
        Int(low=-2, high=7, step=3),
        Categorical(choices=tuple("abcd")),
    ):
        values = [from_unit(parameter, unit) for unit in (np.arange(400) + 0.5) / 400]
        assert [values.count(value) for value in dict.fromkeys(values)] == [100] * 4


# ---------------------------------------------------------------- QMC

CONDITIONAL = space_of(
    kind=Categorical(choices=("x", "y")),
    a=Float(low=0, high=1),
    b=Float(low=0, high=1, when={"kind": ("x",)}),
)


def test_qmc_spreads_evenly_over_conditional_parameters_too_and_goes_on_after_a_resume():
    config = StudyConfig(name="n", sampler="qmc")
    study = optuna.create_study(sampler=make_sampler(config, CONDITIONAL))
    study.enqueue_trial({"kind": "y", "a": 0.5})
    drawn = []
    for _ in range(65):
        study.sampler = make_sampler(config, CONDITIONAL)  # as if resumed at every trial
        drawn.append(suggest(study.ask(), CONDITIONAL))
    assert drawn.pop(0) == {"kind": "y", "a": 0.5}
    study._storage.set_trial_state_values(64, optuna.trial.TrialState.WAITING)  # interrupted, and asked for again
    assert suggest(study.ask(), CONDITIONAL) == drawn[-1]
    assert sum(values["kind"] == "x" for values in drawn) == 32
    counts, _ = np.histogram([values["a"] for values in drawn], bins=64, range=(0, 1))
    assert counts.tolist() == [1] * 64  # 64 points of a Sobol sequence, one in each interval
    counts, _ = np.histogram([values["b"] for values in drawn if "b" in values], bins=8, range=(0, 1))
    assert counts.tolist() == [4] * 8


# ---------------------------------------------------------------- grid


def test_a_grid_tries_every_config_once_across_resumes():
    space = space_of(
        kind=Categorical(choices=("x", None, True)),
        step=Float(low=0.1, high=0.3, step=0.1),
        only=Int(low=1, high=2, when={"kind": ("x",)}),
    )
    study = optuna.create_study()
    study.enqueue_trial({"kind": "x", "step": 0.29999999999999993})  # in part, and off by the last bit
    tried = []
    for _ in range(12):
        study.sampler = sampler = GridSampler(space, seed=3)
        assert sampler.left(study) == 12 - len(tried)
        trial = study.ask()
        tried.append(suggest(trial, space))
        study.tell(trial, 1.0)
    assert sampler.left(study) == 0
    rounded = [{**values, "step": round(values["step"], 9)} for values in tried]
    grid = [{**values, "step": round(values["step"], 9)} for values in space.grid()]
    assert sorted(map(repr, rounded)) == sorted(map(repr, grid))
    assert rounded[1:] != [values for values in grid if values != rounded[0]]  # shuffled


# ---------------------------------------------------------------- CMA-ES


def evolve(function, dimensions: int, generations: int, seed: int = 0) -> np.ndarray:
    """Return the mean after so many generations on a function of points of the unit cube."""
    evolution, rng = Evolution(dimensions), np.random.default_rng(seed)
    for _ in range(generations):
        points = np.array([evolution.draw(rng) for _ in range(evolution.population)])
        evolution.learn(points[np.argsort([function(point) for point in points])])
    return evolution.mean


@pytest.mark.parametrize("seed", range(3))
def test_cmaes_follows_a_narrow_rotated_valley(seed):
    """Condition number 1e4: steps of one length in all directions would creep along the valley."""
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    optimum = np.array([0.3, 0.6, 0.5, 0.7])

    def valley(point: np.ndarray) -> float:
        return float((10.0 ** np.linspace(0, 4, 4) * (rotation @ (point - optimum)) ** 2).sum())

    mean = evolve(valley, 4, generations=150, seed=seed)
    assert np.abs(mean - optimum).max() < 1e-4


@pytest.mark.parametrize("dimensions", [1, 2, 20])
def test_cmaes_depends_on_the_order_of_values_alone(dimensions):
    def bowl(point: np.ndarray) -> float:
        return float(((point - 0.4) ** 2).sum())

    means = [evolve(function, dimensions, 20) for function in (bowl, lambda point: np.exp(7 * bowl(point)) - 3)]
    assert (means[0] == means[1]).all()
    assert np.abs(means[0] - 0.4).max() < 0.15


def test_cmaes_keeps_to_feasible_points_and_learns_from_points_of_others():
    """The least value lies in the corner, where the constraint is broken; Optuna's own would end there."""
    space = space_of(a=Float(low=1e-3, high=10, log=True), b=Int(low=0, high=100), c=Float(low=0, high=1, step=0.1))
    study = optuna.create_study()
    study.enqueue_trial({"a": 0.1, "b": 50, "c": 0.5})
    drawn = []
    for _ in range(150):
        study.sampler = CmaEsSampler(space, seed=0)  # keeps nothing of its own
        trial = study.ask()
        values = suggest(trial, space)
        drawn.append(values)
        trial.set_constraint("g", 0.4 - values["c"])
        if values["b"] > 90:
            trial.report(0.5, 3)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, abs(np.log10(values["a"]) + 2) + values["c"] + (values["b"] - 30) ** 2 / 1e3)
    late = drawn[-20:]
    assert np.mean([values["c"] >= 0.4 for values in late]) > 0.7
    assert study.best_trial.params["a"] == pytest.approx(0.01, rel=0.2)
    assert abs(study.best_trial.params["b"] - 30) <= 6
    assert all(isinstance(values["b"], int) for values in drawn)


def test_trials_are_ranked_feasible_then_stopped_then_infeasible():
    def told(state: str, value: float | None = None, broken: float = 0.0, **reports: float) -> optuna.trial.FrozenTrial:
        values = {int(epoch[1:]): report for epoch, report in reports.items()}
        return optuna.create_trial(
            state=optuna.trial.TrialState[state], value=value, intermediate_values=values, constraints={"g": broken}
        )

    ranked = [
        told("COMPLETE", 0.1),
        told("COMPLETE", 0.2),
        told("PRUNED", e5=0.9, e9=0.8),
        told("PRUNED", e5=0.1),
        told("PRUNED", e5=0.2),
        told("PRUNED"),
        told("COMPLETE", 0.0, broken=0.5),
        told("PRUNED", broken=1.0, e9=0.1),
    ]
    assert sorted(random.Random(0).sample(ranked, len(ranked)), key=merit) == ranked
