"""From a search space to Optuna."""

from __future__ import annotations

import optuna
import pytest

from search_spaces import Categorical, Float, Int, SearchSpace, load_space, preset_names
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


def test_published_strategies_come_first_with_the_base_settings():
    space, base = load_space("adaptive_compression"), TrialConfig()
    points = first_points(space, base)
    assert [point["compression.strategy"] for point in points] == [
        "variance",
        "dimensionality",
        "information",
        "balanced",
        "waterfill",
        "feedback",
    ]
    for point in points:
        assert point["compression.rule"] == "spinlock"
        assert point["compression.capacity"] == base.compression.capacity
        assert point["training.learning_rate"] == base.training.learning_rate
        assert space.to_config(base, point).compression.rule == "spinlock"


def test_a_space_without_the_published_rule_has_no_first_points():
    only = {
        "compression.rule": Categorical(choices=("graded",)),
        "compression.strategy": Categorical(choices=("variance",)),
    }
    assert first_points(SearchSpace(name="s", description="", parameters=only), TrialConfig()) == []
    assert first_points(SearchSpace(name="s", description="", parameters={}), TrialConfig()) == []
