"""A trial written as Spinlock's YAML: read back it is the same, but for what a line names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.compression.strategies import STRATEGIES
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.interop.spinlock_reader import parse_spinlock
from spinlock_dist.interop.spinlock_writer import (
    Carried,
    codes_there,
    dims_there,
    module_names,
    size_table,
    to_spinlock,
)
from spinlock_dist.preset import read_preset
from tests.spinlock_loader import Loaded, load_as_spinlock

CATEGORIES = {"cluster_1": 14, "cluster_2": 5}
RATIOS = np.array([[0.25, 0.5, 0.75], [0.6024809, 1.2, 1.8]])
ONE_EACH = CapacityPlan(RATIOS, np.array([[8, 16, 24], [4, 8, 8]]), np.array([[[24], [13], [1]], [[15], [8], [6]]]))
SEVERAL = CapacityPlan(
    RATIOS, ONE_EACH.dims, np.array([[[24, 20], [13, 1], [1, 1]], [[800, 700], [8, 6], [6, 1]]])
)  # 480, 13, 1; more codes than one codebook may have, 48, 6


IN_THE_FILES = (
    *("compression.", "prepare.dataset", "prepare.max_samples", "prepare.simulator."),
    *("prepare.families", "prepare.cleaning.", "prepare.categories."),
)
"""Settings of what is in files and keys of its own: features, categories and sizes."""

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


def carried(plan: CapacityPlan = ONE_EACH, folder: Path = Path()) -> Carried:
    return Carried(
        categories=CATEGORIES,
        plan=plan,
        families=["summary", "temporal"],
        dataset=str(folder / "d.h5"),
        mapping=str(folder / "c.json"),
        checkpoints=str(folder / "trained"),
    )


def written(config: TrialConfig, plan: CapacityPlan = ONE_EACH) -> tuple[dict[str, Any], list[str]]:
    text, notes = to_spinlock(config, carried(plan))
    assert all("\n" not in note for note in notes)
    return yaml.safe_load(text), notes


def loaded(config: TrialConfig, folder: Path, plan: CapacityPlan = ONE_EACH) -> Loaded:
    (folder / "t.yaml").write_text(to_spinlock(config, carried(plan, folder))[0])
    (folder / "c.json").write_text(json.dumps({"cluster_1": [*range(14)], "cluster_2": [*range(14, 19)]}))
    with h5py.File(folder / "d.h5", "w") as file:
        file["features/summary/aggregated/features"] = np.ones((6, 12))
        file["features/temporal/features"] = np.zeros((6, 7))
    return load_as_spinlock(folder / "t.yaml")


@given(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()}))
def test_every_setting_is_read_back_or_named(given: dict[str, Any]) -> None:
    config = TrialConfig().with_overrides(given)
    tree, notes = written(config)
    back, _ = parse_spinlock(tree, {}, "export")
    named = " ".join(notes)
    ours, theirs = dict(flat(config.model_dump(mode="json"))), dict(flat(back.model_dump(mode="json")))
    in_the_files = (
        "compression.",
        "prepare.simulator.",
        "prepare.families",
        "prepare.cleaning.",
        "prepare.categories.",
    )
    for name, value in ours.items():
        if (
            theirs.get(name) == value
            or name.startswith(in_the_files)
            or name in ("prepare.dataset", "prepare.max_samples")
        ):
            continue  # features, categories and sizes are in files and keys of their own
        if name == "training.patience":
            assert value is None and theirs[name] == config.training.epochs  # as long as training lasts: never
        elif not (name == "model.shared_hidden" and config.model.decoder == "category"):
            assert ".".join(name.split(".")[:3]) in named, f"{name} is lost in silence"
    assert "its features are encoded and cleaned here" in named
    strategy = config.compression.strategy
    assert (f"compression.strategy {strategy}:" in named) == (strategy != "uniform")
    assert f"compression.capacity {config.compression.capacity}" in named


def test_what_the_preset_says_is_said_but_for_its_units_and_total() -> None:
    preset = parse_config(TrialConfig, read_preset("spinlock", ""), "")
    config = preset.with_overrides({"prepare.dataset": "d.h5", "compression.strategy": "uniform"})
    tree, notes = written(config)
    back, _ = parse_spinlock(tree, {}, "export")
    for section in ("model", "quantizer", "loss", "training"):
        unsaid = {"device": config.training.device} if section == "training" else {}
        assert getattr(back, section).model_copy(update=unsaid) == getattr(config, section)
    assert [note.split(":")[0] for note in notes] == [
        "compression.capacity latent",
        "prepare",
        "group_embedding_dim 256",
        "loss weights",
        "training.device auto",
    ]


def test_a_ratio_that_moves_latent_dimensions_is_given_as_a_ratio(tmp_path: Path) -> None:
    config = TrialConfig().with_overrides({"compression.capacity": "latent"})
    found = loaded(config, tmp_path)
    assert found.settings["compression_ratios_per_category"] == {
        "cluster_1": [0.25, 0.5, 0.75],
        "cluster_2": [0.602481, 1.2, 1.8],
    }
    assert found.dims == dims_there(config, carried()) == [[4, 8, 12], [4, 8, 12]]
    assert found.codes == codes_there(config, carried()) == [[24, 13, 6], [16, 8, 6]]


def test_a_ratio_that_moves_codes_is_given_as_codes(tmp_path: Path) -> None:
    found = loaded(TrialConfig(), tmp_path)
    assert (found.codes, found.dims) == (ONE_EACH.codes[..., 0].tolist(), ONE_EACH.dims.tolist())


def test_codebooks_of_a_level_become_one_of_as_many_codes_up_to_the_most_there_are(tmp_path: Path) -> None:
    found = loaded(TrialConfig(), tmp_path, SEVERAL)
    assert found.codes == [[480, 13, 1], [1024, 48, 6]]
    assert any("levels of several codebooks" in note for note in written(TrialConfig(), SEVERAL)[1])
    table = size_table(TrialConfig(), carried(SEVERAL))
    assert table[2].split("  ")[0] == "cluster_2"
    assert "1024 48 6" in table[2] and "800x700 8x6 6" in table[2] and "16 8 6" in table[2]


def test_names_that_a_torch_module_cannot_have_are_others_there() -> None:
    names = module_names(["cluster_1", "v1.2", "v1_2", "forward", "keys", "", "speed [m/s]"])
    nn.ModuleDict({name: nn.Identity() for name in names.values()})
    assert len(set(names.values())) == len(names)
    assert (names["cluster_1"], names["speed [m/s]"]) == ("cluster_1", "speed [m/s]")


def test_a_strategy_that_is_measured_says_so() -> None:
    _, notes = written(TrialConfig().with_overrides({"compression.strategy": "feedback"}))
    assert any("no pilots are run there" in note for note in notes)


@pytest.mark.parametrize(("mine", "theirs"), [("standard", "standard"), ("robust", "mad"), ("quantile", None)])
def test_normalizations_have_spinlocks_names(mine: str, theirs: str | None) -> None:
    tree, notes = written(TrialConfig().with_overrides({"prepare.normalization": mine}))
    assert tree["training"].get("normalization_method") == theirs
    assert any("prepare.normalization quantile" in note for note in notes) == (theirs is None)
