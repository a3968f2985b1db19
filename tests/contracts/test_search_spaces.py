"""Every search space that comes with the package: each of its branches can really be trained."""

from __future__ import annotations

import random

import pytest

from search_spaces import Categorical, Float, Parameter, SearchSpace, load_space, preset_names
from search_spaces.space import Branch
from spinlock_dist.config import TrialConfig
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial, training_hash
from tests.synthetic import write_table

BRANCHES = [(name, branch) for name in preset_names() for branch in load_space(name).branches()]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", rows=200)
    return TrialConfig(prepare={"dataset": str(dataset), "categories": {"count": 3}}, training={"device": "cpu"})


@pytest.fixture(scope="module")
def data(base: TrialConfig) -> PreparedData:
    return prepare(base.prepare)


def drawn(parameter: Parameter, rng: random.Random) -> object:
    if isinstance(parameter, Categorical):
        return rng.choice(parameter.choices)
    value = rng.uniform(parameter.low, parameter.high)
    return value if isinstance(parameter, Float) else int(value)


def values_in(space: SearchSpace, branch: Branch, rng: random.Random) -> dict[str, object]:
    return {
        name: rng.choice(branch.choices[name]) if name in branch.choices else drawn(space.parameters[name], rng)
        for name in branch.names
    }


@pytest.mark.parametrize(
    ("name", "branch"), BRANCHES, ids=[f"{name} {' '.join(map(str, b.choices.values()))}" for name, b in BRANCHES]
)
def test_a_config_of_every_branch_trains(name: str, branch: Branch, base: TrialConfig, data: PreparedData) -> None:
    space = load_space(name)
    config = space.to_config(base, values_in(space, branch, random.Random(0)))
    outcome = run_trial(config.with_overrides({"training.epochs": 1}), data)
    assert outcome.validation.bits_per_sample > 0
    assert outcome.validation.fvu_worst > 0


SMALL = [(name, branch) for name, branch in BRANCHES if name in ("quick", "adaptive_compression")]


@pytest.mark.parametrize(
    ("name", "branch"), SMALL, ids=[f"{n} {' '.join(map(str, b.choices.values()))}" for n, b in SMALL]
)
def test_no_setting_is_sampled_that_changes_nothing(
    name: str, branch: Branch, base: TrialConfig, data: PreparedData
) -> None:
    """Each one alone changes what is trained, from at least one of ten places in the branch."""
    space = load_space(name)
    for varied in branch.names:
        if varied == "compression.strategy":
            continue
        seen = set()
        for seed in range(10):
            values = values_in(space, branch, random.Random(seed))
            choices = branch.choices.get(varied, space.parameters[varied].probes())
            hashes = {training_hash(space.to_config(base, {**values, varied: choice}), data) for choice in choices}
            seen.add(len(hashes) > 1 or len(choices) == 1)
        assert True in seen, varied
