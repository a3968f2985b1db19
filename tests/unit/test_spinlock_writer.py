"""A trial written as Spinlock's YAML: read back it is the same, but for what a line names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.interop.spinlock_reader import parse_spinlock
from spinlock_dist.interop.spinlock_writer import to_spinlock
from spinlock_dist.preset import read_preset

RATIOS = {"cluster_1": [0.25, 0.5, 0.75], "cluster_2": [0.6024809, 1.2, 1.8]}

CHOICES: dict[str, tuple[Any, ...]] = {
    "seed": (0, 7),
    "prepare.dataset": (None, "operators.h5"),
    "prepare.max_samples": (None, 500),
    "prepare.normalization": ("standard", "robust", "quantile"),
    "prepare.split.seed": (0, 7),
    "prepare.cleaning.min_std": (1e-10, 1e-6),
    "prepare.cleaning.max_variance": (1e10, 1e8),
    "prepare.cleaning.clip_percentiles": ([0.5, 99.5], [1, 99]),
    "prepare.categories.count": (None, 8),
    "prepare.categories.min_features": (3, 5),
    "prepare.families": (
        None,
        {"summary": {"encoder": "mlp", "hidden": [64], "output": 16, "calibrate": False}},
        {"summary": {"encoder": "mlp", "calibrate": True}, "temporal": {"encoder": "temporal_stats"}},
        {"initial": {"encoder": "initial_hybrid", "calibrate": False, "embedding": 12}},
        {"temporal": {"encoder": "temporal_cnn", "calibrate": False}},
    ),
    "compression.strategy": tuple(STRATEGIES),
    "compression.capacity": ("latent", "codes"),
    "model.levels": ("residual", "parallel"),
    "model.decoder": ("category", "shared"),
    "model.hidden": (32, 128),
    "model.shared_hidden": (256, 64),
    "model.initialization": ("data", "random"),
    "quantizer.kind": ("ema", "fsq"),
    "quantizer.ema_decay": (0.95, 0.99),
    "quantizer.expiry_share": (0.0, 0.01),
    "loss.commitment": (3.0, 0.45),
    "loss.orthogonality": (0.0, 0.1),
    "loss.reconstruction_balance": ("features", "worst"),
    "training.epochs": (40, 100),
    "training.learning_rate": (1e-3, 7e-4),
    "training.evaluate_every": (5, 2),
    "training.patience": (None, 12),
    "training.device": ("auto", "cpu", "cuda:1"),
}


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def written(config: TrialConfig) -> tuple[dict[str, Any], list[str]]:
    text, notes = to_spinlock(config, RATIOS, ["summary", "temporal"], "c.json")
    assert all("\n" not in note for note in notes)
    return yaml.safe_load(text), notes


@given(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()}))
def test_every_setting_is_read_back_or_named(given: dict[str, Any]) -> None:
    config = TrialConfig().with_overrides(given)
    tree, notes = written(config)
    back, not_mapped = parse_spinlock(tree, {}, "export")
    named = " ".join(notes)
    ours, theirs = dict(flat(config.model_dump(mode="json"))), dict(flat(back.model_dump(mode="json")))
    for name, value in ours.items():
        if theirs.get(name) == value or name.startswith(("compression.", "prepare.simulator.")):
            continue  # compression is said by its ratios
        if name == "prepare.dataset":
            assert "spinlock_dist.generate" in named
        elif name == "training.patience":
            assert value is None and theirs[name] == config.training.epochs  # as long as training lasts: never
        elif not (name == "model.shared_hidden" and config.model.decoder == "category"):
            assert ".".join(name.split(".")[:3]) in named, f"{name} is lost in silence"
    strategy = config.compression.strategy
    assert (f"compression.strategy {strategy}:" in named) == (strategy != "uniform")
    assert f"compression.capacity {config.compression.capacity}" in named
    assert {line.split(" (")[0] for line in not_mapped} <= {"compression_ratios", "category_mapping_file"}


def test_what_the_preset_says_is_said_but_for_its_units_and_total() -> None:
    preset = parse_config(TrialConfig, read_preset("spinlock", ""), "")
    config = preset.with_overrides({"prepare.dataset": "a.h5", "compression.strategy": "uniform"})
    tree, notes = written(config)
    back, _ = parse_spinlock(tree, {}, "export")
    assert back == config
    assert [note.split(":")[0] for note in notes] == ["compression.capacity latent", "loss weights"]
    assert tree["model"]["compression_ratios"] == {"cluster_1": [0.25, 0.5, 0.75], "cluster_2": [0.602481, 1.2, 1.8]}
    assert tree["training"]["category_mapping_file"] == "c.json"
    assert tree["families"]["temporal"] == {
        "encoder": "TemporalCNNEncoder",
        "encoder_params": {"embedding_dim": 128},
    }


def test_a_strategy_that_is_measured_says_so() -> None:
    _, notes = written(TrialConfig().with_overrides({"compression.strategy": "feedback"}))
    assert any("no pilots are run there" in note for note in notes)


@pytest.mark.parametrize(("mine", "theirs"), [("standard", "standard"), ("robust", "mad"), ("quantile", None)])
def test_normalizations_have_spinlocks_names(mine: str, theirs: str | None) -> None:
    tree, notes = written(TrialConfig().with_overrides({"prepare.normalization": mine}))
    assert tree["training"].get("normalization_method") == theirs
    assert any("prepare.normalization quantile" in note for note in notes) == (theirs is None)
