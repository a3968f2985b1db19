"""The samplers by themselves: seeds, what each refuses, and that those of our own search."""

from __future__ import annotations

import sys

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from pydantic import ValidationError

from benchmarks.units import from_unit, to_unit
from results.records.optuna_distributions import distributions, suggest
from search_spaces import Categorical, Float, Int, Parameter, SearchSpace, load_space, preset_names
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.samplers.build import check_sampler, guards_notice, load_sampler, make_sampler, name_of
from study.search.constraints import COUNT
from study.validate import validate


def space_of(**parameters: Parameter) -> SearchSpace:
    return SearchSpace(name="s", description="", parameters=parameters)


def draws(space: SearchSpace, seed: int = 0, count: int = 5, sampler: str = "tpe") -> list[dict]:
    config = StudyConfig(name="n", sampler=sampler, seed=seed)
    study = optuna.create_study(sampler=make_sampler(config))
    return [suggest(study.ask(), space) for _ in range(count)]


@pytest.mark.parametrize("name", preset_names())
def test_every_suggestion_is_a_config(name):
    space = load_space(name)
    study = optuna.create_study(sampler=make_sampler(StudyConfig(name="n")))
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
        study.sampler = make_sampler(StudyConfig(name="n"))  # as if resumed at every trial
        drawn.append(suggest(study.ask(), space))
    assert drawn == draws(space)
    assert len({values["training.learning_rate"] for values in drawn}) == 5


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "nsga2"}, "--sampler nsga2: keeps a front of several objectives: add --objective pareto"),
        ({"sampler": "composite", "objective": "pareto"}, "--sampler composite: minimizes one number: leave out"),
        ({"sampler": "qmc", "deterministic": True}, "--sampler qmc: keeps a state of its own"),
        ({"sampler": "package.Sampler"}, "sampler package.Sampler is code, which a file alone never imports"),
    ],
)
def test_a_sampler_that_cannot_do_what_is_asked_is_refused_in_a_line(settings, message):
    with pytest.raises(ConfigError) as error:
        check_sampler(StudyConfig(name="n", **settings))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["tpee", "cmaes", "grid", "", ".", "a b.c", "../evil.py", "os.system('x')"])
def test_a_name_that_is_no_sampler_is_refused(name):
    with pytest.raises(ValidationError, match="unknown sampler"):
        StudyConfig(name="n", sampler=name)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc"])
@pytest.mark.parametrize("objective", ["single", "pareto"])
def test_the_others_search_for_either_objective(sampler, objective):
    config = StudyConfig(name="n", sampler=sampler, objective=objective)
    check_sampler(config)
    for name in preset_names():
        study = optuna.create_study(directions=["minimize"] * COUNT[objective], sampler=make_sampler(config))
        assert load_space(name).to_config(TrialConfig(), suggest(study.ask(), load_space(name))) is not None


@pytest.mark.parametrize(("sampler", "notice"), [("tpe", ""), ("random", "sampler random ignores the guards: ")])
def test_one_that_ignores_the_guards_is_named(sampler, notice):
    assert guards_notice(StudyConfig(name="n", sampler=sampler)).startswith(notice)
    assert bool(guards_notice(StudyConfig(name="n", sampler=sampler))) == bool(notice)


# ---------------------------------------------------------------- GP


@pytest.mark.parametrize("objective", ["single", "pareto"])
def test_gp_learns_from_complete_trials_under_constraints(objective):
    """The less a, the better, and below 0.5 it is infeasible: who has learned that suggests what is just above."""
    count, space = COUNT[objective], space_of(a=Float(low=0, high=1), b=Float(low=0, high=1))
    sampler = make_sampler(StudyConfig(name="n", sampler="gp", objective=objective))
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


def test_qmc_spreads_evenly_also_when_the_study_is_resumed_at_every_trial():
    config, space = StudyConfig(name="n", sampler="qmc"), space_of(a=Float(low=0, high=1), b=Float(low=0, high=1))
    study = optuna.create_study()
    study.add_trial(optuna.create_trial(params={"a": 0.5, "b": 0.5}, distributions=distributions(space), value=1.0))
    drawn = []
    for _ in range(64):
        study.sampler = make_sampler(config)
        drawn.append(suggest(study.ask(), space))
    for name in ("a", "b"):
        counts, _ = np.histogram([values[name] for values in drawn], bins=64, range=(0, 1))
        assert counts.tolist() == [1] * 64  # 64 points of a Sobol sequence, one in each interval


# ---------------------------------------------------------------- samplers of others


class Corner(BaseSampler):
    """Suggests the low end of everything."""

    def __init__(self, seed: int | None = None):
        self.seed = seed

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.low


class Nested:
    class Corner(Corner):
        """One whose name has two parts."""


def broken(seed: int) -> BaseSampler:
    raise ValueError("no licence")


def not_one() -> str:
    return "sampler"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that only an explicit import can have loaded."""
    (tmp_path / "foreign_sampler.py").write_text(
        "from optuna.samplers import RandomSampler\n"
        "class Mine(RandomSampler):\n    pass\n"
        "def factory():\n    return RandomSampler(seed=7)\n"
    )
    (tmp_path / "foreign_broken.py").write_text("raise RuntimeError('needs a\\ndatabase')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("foreign_sampler", "foreign_broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["foreign_sampler.Mine", "foreign_sampler:Mine", "foreign_sampler:factory"])
def test_any_sampler_is_made_from_its_dotted_name_seeded_if_it_takes_a_seed(module, name):
    config = StudyConfig(name="n", sampler=name)
    assert "foreign_sampler" not in sys.modules  # a name in a config imports nothing
    space = space_of(a=Float(low=0, high=1))
    drawn = []
    for seed in (0, 0, 1):
        config = StudyConfig(name="n", sampler=name, seed=seed)
        study = optuna.create_study(sampler=make_sampler(config, load_sampler(name)))
        drawn.append([suggest(study.ask(), space)["a"] for _ in range(3)])
    assert drawn[0] == drawn[1]
    assert (drawn[0] != drawn[2]) == (not name.endswith("factory"))
    assert len(set(drawn[0])) == 3
    assert "is not known to heed" in guards_notice(config, load_sampler(name))


def test_an_object_or_a_function_is_handed_in_and_each_search_has_its_own(module):
    space, corner = space_of(a=Float(low=0.25, high=1)), Corner()
    for given in (corner, Corner, lambda seed: Corner(seed)):
        config = StudyConfig(name="n", sampler=name_of(given))
        check_sampler(config, given)
        sampler = make_sampler(config, given)
        assert isinstance(sampler, Corner) and sampler is not corner
        assert suggest(optuna.create_study(sampler=sampler).ask(), space) == {"a": 0.25}
    assert name_of(corner) == name_of(Corner) == f"{__name__}:Corner"
    assert name_of(Nested.Corner) == f"{__name__}:Nested.Corner"
    assert name_of(load_sampler("foreign_sampler:Mine")) == "foreign_sampler:Mine"


def test_a_study_records_the_sampler_that_it_was_handed(tmp_path):
    config = StudyConfig(name="s", sampler="old.package:Sampler", runs=str(tmp_path), cluster={"gpus": 0})
    assert validate(config, sampler=Corner()).config.sampler == f"{__name__}:Corner"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.Sampler", "--sampler nowhere.Sampler: cannot be imported: No module named 'nowhere'"),
        ("foreign_sampler.Mime", "--sampler foreign_sampler.Mime: cannot be imported: module 'foreign_sampler' has no"),
        ("foreign_broken.Mine", "--sampler foreign_broken.Mine: cannot be imported: needs a database"),
        ("foreign_sampler.__name__", "is neither a sampler's class nor a function"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_line(module, name, message):
    with pytest.raises(ConfigError) as error:
        load_sampler(name)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [(broken, "cannot be made: no licence"), (lambda seed: not_one(), "gives a str, not an Optuna sampler")],
)
def test_what_makes_no_sampler_is_refused_in_a_line(given, message):
    with pytest.raises(ConfigError, match=message):
        make_sampler(StudyConfig(name="n", sampler=name_of(given)), given)


def test_a_foreign_sampler_promises_no_deterministic_study():
    config = StudyConfig(name="n", sampler=name_of(Corner), deterministic=True)
    with pytest.raises(ConfigError, match="keeps a state of its own"):
        check_sampler(config, Corner)
