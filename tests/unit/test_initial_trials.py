"""The initial trials that every study tries first."""

from __future__ import annotations

import pytest

from search_spaces import Categorical, Float, Int, SearchSpace, load_space, preset_names
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig
from study.search.initial_trials import initial_points


@pytest.mark.parametrize("name", preset_names())
def test_uniform_and_then_every_strategy_come_first_with_the_base_settings(name):
    space, base = load_space(name), TrialConfig()
    points = initial_points(space, base)
    strategies = [point["compression.strategy"] for point in points]
    measured = [name for name in strategies if STRATEGIES[name].measured is not None]
    assert strategies[: 1 + len(measured)] == ["uniform", *measured]
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
    points = initial_points(SearchSpace(name="s", description="", parameters=parameters), TrialConfig())
    rest = {"compression.rule": "graded", "compression.bounds.L1.span": 4.0}
    assert points == [{"compression.strategy": "uniform", **rest}, {"compression.strategy": "balanced", **rest}]


def test_a_space_without_strategies_starts_from_the_base():
    parameters = {"model.hidden": Int(low=1, high=64), "compression.bounds.L0.span": Float(low=2, high=3)}
    space = SearchSpace(name="s", description="", parameters=parameters, fixed={"compression.bounds.L0.low": 0.4})
    base = TrialConfig().with_overrides({"model.hidden": 8})
    assert initial_points(space, base) == [{"model.hidden": 8, "compression.bounds.L0.span": 2.5}]
