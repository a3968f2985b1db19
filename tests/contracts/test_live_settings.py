"""The rule that says which settings are read, held against every shipped space, against plans and against trainings."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces import Categorical, SearchSpace, load_space, preset_names
from search_spaces.space import setting_of
from spinlock_dist.compression.strategies import Strategy
from spinlock_dist.compression.strategies.strategy import Measured
from spinlock_dist.config import QUANTIZERS, STRATEGIES, TrialConfig
from spinlock_dist.live_settings import is_live, is_live_in, settled
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome, plan_sizes, run_trial, training_hash
from tests.synthetic import write_table

VALUES: dict[str, tuple[Any, ...]] = {
    "seed": (0, 1),
    "compression.strategy": tuple(STRATEGIES),
    "compression.rule": ("graded", "spinlock"),
    "compression.capacity": ("codes", "latent"),
    "compression.bounds": (
        {"L0": {"low": 0.25, "high": 1.0}, "L1": {"low": 0.5, "high": 2.0}, "L2": {"low": 0.75, "high": 3.0}},
        {"L0": {"low": 0.4, "high": 0.7}, "L1": {"low": 0.9, "high": 1.8}, "L2": {"low": 1.2, "high": 2.4}},
    ),
    "compression.sharpness": (1.0, 3.0),
    "compression.min_ratio_range": (1.0, 1.6),
    "compression.feedback": ({"rounds": 1, "risk": 0.0}, {"rounds": 2, "risk": 8.0}),
    "compression.given": ((0.3, 0.8, 1.8), (0.9, 1.0, 1.1)),
    "compression.max_codes": (1024, 12),
    "compression.max_codebooks": (1, 3),
    "compression.min_rows_per_code": (4, 10),
    "model.levels": ("residual", "parallel"),
    "model.decoder": ("category", "joint", "shared"),
    "model.hidden": (4, 6),
    "model.shared_hidden": (8, 12),
    "model.initialization": ("data", "random"),
    "quantizer.kind": tuple(QUANTIZERS),
    "quantizer.fsq_levels": (3, 4),
    "quantizer.ema_decay": (0.95, 0.8),
    "quantizer.kmeans_iterations": (1, 20),
    "quantizer.expiry_share": (0.0, 0.9),
    "quantizer.expiry_every": (1, 2),
    "quantizer.beam": (1, 3),
    "loss.commitment": (3.0, 1.0),
    "loss.informativeness": (0.1, 0.4),
    "loss.orthogonality": (0.0, 0.1),
    "loss.topographic": (0.0, 0.1),
    "loss.reconstruction_balance": ("features", "categories", "worst"),
    "training.epochs": (4, 5),
    "training.batch_size": (16, 32),
    "training.learning_rate": (5e-3, 2e-3),
    "training.evaluate_every": (1, 4),
    "training.schedule": ("wsd", "constant", "linear"),
    "training.decay_share": (0.5, 0.9),
    "training.refine_share": (0.5, 0.25, 0.0),
    "training.patience": (None, 1),
    "training.engine": ("auto", "torch"),
}
SOMETIMES = {
    *(f"compression.{name}" for name in ("rule", "capacity", "bounds", "sharpness", "min_ratio_range", "feedback")),
    *("compression.given", "compression.max_codebooks", "model.shared_hidden", "quantizer.fsq_levels"),
    *(f"quantizer.{name}" for name in ("ema_decay", "kmeans_iterations", "expiry_share", "expiry_every", "beam")),
    *("training.decay_share", "training.refine_share"),
}
"""The settings that some configs do not read."""
OF_COMPRESSION = {name for name in SOMETIMES if name.startswith("compression.")}
READ_WHERE: dict[str, dict[str, Any]] = {
    "compression.min_ratio_range": {"compression.rule": "spinlock"},
    "compression.feedback": {"compression.strategy": "feedback"},
    "compression.given": {"compression.strategy": "given"},
    "compression.max_codebooks": {"compression.max_codes": 6},
    "model.shared_hidden": {"model.decoder": "shared"},
    "quantizer.fsq_levels": {"quantizer.kind": "fsq"},
    "quantizer.expiry_every": {"quantizer.expiry_share": 0.9},
    "training.refine_share": {"quantizer.beam": 3},
    "training.evaluate_every": {"training.patience": 1, "training.learning_rate": 0.3, "training.epochs": 8},
    "training.patience": {"training.evaluate_every": 1, "training.learning_rate": 0.3, "training.epochs": 8},
}
"""What else a config has in which the setting makes a difference, if not every one will do."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", rows=120)
    given = {name: values[0] for name, values in VALUES.items()}
    prepared = {"prepare.dataset": str(dataset), "prepare.categories.count": 3, "training.device": "cpu"}
    return TrialConfig().with_overrides({**given, "compression.strategy": "balanced", **prepared})


@pytest.fixture(scope="module")
def data(base: TrialConfig) -> PreparedData:
    return prepare(base.prepare)


def drawn(base: TrialConfig, seed: int) -> TrialConfig:
    rng = random.Random(seed)
    return base.with_overrides({name: rng.choice(values) for name, values in VALUES.items()})


def changed_where_nothing_reads(config: TrialConfig) -> TrialConfig:
    plain = config.model_dump(mode="json")
    others: dict[str, Any] = {}
    for name in SOMETIMES:
        section, setting = name.split(".")
        if not is_live_in(config, name):
            others[name] = next(value for value in VALUES[name] if value != plain[section][setting])
    return config.with_overrides(others)


def same_training(one: TrialOutcome, other: TrialOutcome) -> bool:
    """Whether plan, model and figures are the same bit for bit."""
    plans, models = (one.tokenizer.plan, other.tokenizer.plan), (one.tokenizer.model, other.tokenizer.model)
    if any(not np.array_equal(*(getattr(plan, part) for plan in plans)) for part in ("dims", "codes")):
        return False
    ours, theirs = (model.state_dict() for model in models)
    same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    return same and one.validation == other.validation and one.epochs == other.epochs


def test_every_setting_is_asked_about() -> None:
    named = {
        f"{section}.{setting}" if setting else section
        for section, part in TrialConfig().model_dump().items()
        for setting in (part if isinstance(part, dict) else ("",))
        if section != "prepare"
    }
    assert named - {"training.device"} == set(VALUES)  # where it runs


# ---------------------------------------------------------------- what is not read


def test_what_is_not_read_changes_no_plan_and_every_rule_is_met(base: TrialConfig, data: PreparedData) -> None:
    read, unread = set(), set()
    for seed in range(300):
        config = drawn(base, seed)
        live = {name for name in VALUES if is_live_in(config, name)}
        read |= live
        unread |= VALUES.keys() - live
        other = changed_where_nothing_reads(config)
        assert settled(other) == settled(config) == settled(settled(config))
        assert settled(config, other) == other
        assert training_hash(other, data) == training_hash(config, data)
        plan, again = plan_sizes(config, data), plan_sizes(other, data)
        for part in ("ratios", "dims", "codes"):
            np.testing.assert_array_equal(getattr(plan, part), getattr(again, part))
    assert read == set(VALUES)
    assert unread == SOMETIMES


@pytest.mark.parametrize("seed", range(30))
def test_what_is_not_read_changes_no_bit_of_what_is_trained(base: TrialConfig, data: PreparedData, seed: int) -> None:
    config = drawn(base, seed)
    other = changed_where_nothing_reads(config)
    assert other != config
    assert same_training(run_trial(config, data), run_trial(other, data))


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_makes_a_difference_somewhere(base: TrialConfig, data: PreparedData, name: str) -> None:
    config = base.with_overrides(READ_WHERE.get(name, {}))
    assert is_live_in(config, name)
    first, last = (config.with_overrides({name: value}) for value in (VALUES[name][0], VALUES[name][-1]))
    assert training_hash(first, data) != training_hash(last, data)
    assert not same_training(run_trial(first, data), run_trial(last, data))


def test_decoders_are_refined_where_the_model_searches(base: TrialConfig, data: PreparedData) -> None:
    layout = GroupLayout(data.categories)
    for kind, decoder, beam in itertools.product(QUANTIZERS, VALUES["model.decoder"], VALUES["quantizer.beam"]):
        config = base.with_overrides({"quantizer.kind": kind, "model.decoder": decoder, "quantizer.beam": beam})
        model = HierarchicalVQVAE(layout, [plan_sizes(config, data)], config.model, config.quantizer)
        assert is_live_in(config, "training.refine_share") == model.searches


# ---------------------------------------------------------------- spaces


def points(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield a point for each combination of choices by name."""
    names = [name for name, parameter in space.parameters.items() if isinstance(parameter, Categorical)]

    def filled(values: dict[str, Any], left: list[str]) -> Iterator[dict[str, Any]]:
        if not left:
            numbers = {
                name: parameter.probes()[-1]
                for name, parameter in space.parameters.items()
                if name not in names and space.counts(name, values)
            }
            yield values | numbers
        elif space.counts(left[0], values):
            for choice in space.parameters[left[0]].probes():
                yield from filled({**values, left[0]: choice}, left[1:])
        else:
            yield from filled(values, left[1:])

    yield from filled({}, names)


@pytest.mark.parametrize("preset", preset_names())
def test_a_shipped_space_samples_only_what_is_read(preset: str) -> None:
    space = load_space(preset)
    for values in points(space):
        config = space.to_config(TrialConfig(), values)
        unread = [name for name in values if not is_live_in(config, name)]
        assert not unread, {name: setting_of(config, name) for name in values}


# ---------------------------------------------------------------- what is not known


def test_what_is_not_known_is_taken_to_read_everything() -> None:
    for name in VALUES:
        assert is_live(name, {}.get)
        lost = {"compression.strategy": "lost", "quantizer.kind": "lost", "quantizer.beam": 3}
        assert is_live(name, lost.get) or name == "training.refine_share"
    assert is_live("no.setting", {}.get)


def test_a_part_of_a_setting_is_read_where_the_whole_is() -> None:
    for strategy, read in (("waterfill", True), ("uniform", False)):
        assert is_live("compression.bounds.L0.span", {"compression.strategy": strategy}.get) is read


@pytest.mark.parametrize(
    ("strategy", "read"),
    [
        (Strategy(measured=Measured("own:plan")), OF_COMPRESSION),
        (
            Strategy(measured=Measured("own:plan"), looks_up=("compression.bounds",)),
            {"compression.bounds", "compression.capacity", "compression.max_codebooks"},
        ),
        (
            Strategy(stated=lambda config, categories: np.ones((len(categories), 3)), looks_up=()),
            {"compression.capacity", "compression.max_codebooks"},
        ),
        (
            Strategy(published=lambda category: (0.4, 1.0, 1.6)),
            {"compression.capacity", "compression.max_codebooks"},
        ),
    ],
)
def test_a_strategy_of_ones_own_reads_what_it_says_or_else_anything(
    base: TrialConfig, monkeypatch: pytest.MonkeyPatch, strategy: Strategy, read: set[str]
) -> None:
    monkeypatch.setitem(sys.modules, "own", SimpleNamespace(OWN=strategy))
    STRATEGIES.register("own", "own:OWN")
    try:
        config = base.with_overrides({"compression.strategy": "own"})
        assert {name for name in OF_COMPRESSION if is_live_in(config, name)} == read
    finally:
        STRATEGIES.unregister("own")
