"""From a search space to Optuna."""

from __future__ import annotations

import optuna
import pytest

from search_spaces import Categorical, Float, Int, SearchSpace, load_space, preset_names
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig
from study.sampler import first_points, make_sampler, suggest


def draws(seed: int, stored: int, count: int = 5) -> list[dict]:
    study = optuna.create_study(sampler=make_sampler(seed, stored))
    return [suggest(study.ask(), load_space("adaptive_compression")) for _ in range(count)]


@pytest.mark.parametrize("name", preset_names())
def test_every_suggestion_is_a_config(name):
    space, study = load_space(name), optuna.create_study(sampler=make_sampler(0, 0))
    for _ in range(20):
        trial = study.ask()
        values = suggest(trial, space)
        assert space.to_config(TrialConfig(), values) is not None
        study.tell(trial, 1.0)


def test_each_kind_of_parameter_is_drawn_from_its_range():
    space = SearchSpace(
        name="s",
        description="",
        parameters={
            "a": Float(low=0.1, high=10, log=True),
            "b": Float(low=0, high=1, step=0.25),
            "c": Int(low=2, high=8, step=3),
            "d": Categorical(choices=("x", None, True)),
        },
    )
    study = optuna.create_study(sampler=make_sampler(0, 0))
    drawn = [suggest(study.ask(), space) for _ in range(40)]
    assert all(0.1 <= values["a"] <= 10 for values in drawn)
    assert {values["b"] for values in drawn} == {0, 0.25, 0.5, 0.75, 1}
    assert {values["c"] for values in drawn} == {2, 5, 8}
    assert {values["d"] for values in drawn} == {"x", None, True}


def test_the_stream_is_seeded_and_goes_on_after_a_resume():
    assert draws(0, 0) == draws(0, 0)
    assert draws(0, 0) != draws(1, 0)
    assert draws(0, 0) != draws(0, 5)


def test_a_conditional_parameter_is_drawn_only_where_it_counts():
    space = load_space("full")
    study = optuna.create_study(sampler=make_sampler(0, 0))
    drawn = []
    for _ in range(30):
        trial = study.ask()
        drawn.append(suggest(trial, space))
        assert trial.params == drawn[-1]
        study.tell(trial, 1.0)
    measured = [values for values in drawn if values["compression.strategy"] == "feedback"]
    assert 0 < len(measured) < len(drawn)
    for values in drawn:
        assert ("compression.feedback.step" in values) == (values in measured)


@pytest.mark.parametrize("name", preset_names())
def test_uniform_and_then_every_strategy_come_first_with_the_base_settings(name):
    space, base = load_space(name), TrialConfig()
    points = first_points(space, base)
    strategies = [point["compression.strategy"] for point in points]
    assert strategies[0] == "uniform"
    assert sorted(strategies) == sorted(space.parameters["compression.strategy"].choices)
    for point in points:
        config = space.to_config(base, point)
        has_rule = STRATEGIES[config.compression.strategy].has_rule
        assert config.compression.rule == ("spinlock" if has_rule else base.compression.rule)
        moved = {"strategy": config.compression.strategy, "rule": config.compression.rule}
        expected = space.to_config(base, {}).compression.model_copy(update=moved)
        assert config.model_copy(update={"compression": expected}) == space.to_config(base, point)
        assert all(space.counts(name, point) == (name in point) for name in space.parameters)


def test_where_the_space_does_not_contain_the_base_the_sampler_fills_in():
    parameters = {
        "compression.strategy": Categorical(choices=("balanced", "uniform")),
        "compression.rule": Categorical(choices=("graded",)),
        "training.learning_rate": Float(low=0.1, high=0.2),
        "model.hidden": Int(low=3, high=63, step=3),
        "compression.bounds.L1.span": Float(low=2, high=5, step=1),
    }
    points = first_points(SearchSpace(name="s", description="", parameters=parameters), TrialConfig())
    rest = {"compression.rule": "graded", "compression.bounds.L1.span": 4.0}
    assert points == [{"compression.strategy": "uniform", **rest}, {"compression.strategy": "balanced", **rest}]


def test_a_space_without_strategies_starts_from_the_base():
    parameters = {"model.hidden": Int(low=1, high=64), "compression.bounds.L0.span": Float(low=2, high=3)}
    space = SearchSpace(name="s", description="", parameters=parameters, fixed={"compression.bounds.L0.low": 0.4})
    base = TrialConfig().with_overrides({"model.hidden": 8})
    assert first_points(space, base) == [{"model.hidden": 8, "compression.bounds.L0.span": 2.5}]
