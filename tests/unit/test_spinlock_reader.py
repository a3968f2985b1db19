"""Spinlock's own YAML: every key is mapped to a setting, says what happens anyway, or is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.compression.uniform_baseline import published_codes
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import dump_config, load_config
from spinlock_dist.errors import ConfigError
from spinlock_dist.interop.spinlock_reader import (
    AS_HERE,
    NO_COUNTERPART,
    SETTINGS,
    is_spinlock_yaml,
    load_spinlock_yaml,
)

NESTED: dict[str, Any] = {
    "dataset_path": "datasets/operators.h5",
    "max_samples": 10000,
    "families": {
        "initial": {
            "encoder": "initial_hybrid",
            "encoder_params": {"manual_dim": 14, "cnn_embedding_dim": 28, "encode_manual": False, "in_channels": 1},
        },
        "summary": {
            "encoder": "MLPEncoder",
            "encoder_params": {"hidden_dims": [64, 32], "output_dim": 16, "dropout": 0.1, "batch_norm": True},
        },
        "temporal": {
            "encoder": "TemporalCNNEncoder",
            "encoder_params": {"architecture": "resnet1d_3", "embedding_dim": 24},
        },
    },
    "model": {
        "group_embedding_dim": 256,
        "group_hidden_dim": 512,
        "compression_ratios": "auto",
        "auto_compression_strategy": "information",
        "commitment_cost": 0.35,
        "use_ema": True,
        "decay": 0.95,
        "dropout": 0.1,
        "orthogonality_weight": 0.2,
        "informativeness_weight": 0.12,
    },
    "feature_cleaning": {"enabled": True, "variance_threshold": 1e-9, "percentile_range": [1, 99]},
    "training": {
        "batch_size": 1024,
        "learning_rate": 0.001,
        "num_epochs": 550,
        "max_clusters": 20,
        "min_features_per_category": 4,
        "orthogonality_weight": 0.2,
        "informativeness_weight": 0.1,
        "topo_weight": 0.3,
        "topo_samples": 1024,
        "early_stopping_patience": 100,
        "val_every_n_epochs": 10,
        "dead_code_reset_interval": None,
    },
    "logging": {"wandb": False},
    "random_seed": 7,
}


def load(tmp_path: Path, tree: dict[str, Any] | str) -> tuple[TrialConfig, list[str]]:
    path = tmp_path / "spinlock.yaml"
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False))
    assert is_spinlock_yaml(path)
    return load_spinlock_yaml(path)


def test_a_sectioned_file_is_mapped(tmp_path: Path) -> None:
    config, _ = load(tmp_path, NESTED)
    assert config.prepare.dataset == "datasets/operators.h5"
    assert config.prepare.max_samples == 10000
    assert (config.seed, config.prepare.split.seed) == (7, 7)
    assert {name: encoder.model_dump() for name, encoder in (config.prepare.families or {}).items()} == {
        "initial": {"encoder": "initial_hybrid", "embedding": 28, "seed": 42, "calibrate": False},
        "summary": {
            "encoder": "mlp",
            "hidden": (64, 32),
            "output": 16,
            "seed": 42,
            "calibrate": False,
        },
        "temporal": {"encoder": "temporal_cnn", "embedding": 24, "seed": 42, "calibrate": False},
    }
    assert (config.prepare.cleaning.min_std, config.prepare.cleaning.clip_percentiles) == (1e-9, (1, 99))
    assert (config.prepare.categories.max_count, config.prepare.categories.min_features) == (20, 4)
    compression = config.compression
    assert (compression.strategy, compression.rule, compression.capacity) == ("information", "spinlock", "latent")
    assert (config.model.hidden, config.model.decoder, config.quantizer.ema_decay) == (512, "shared", 0.95)
    assert (config.loss.commitment, config.loss.orthogonality, config.loss.topographic) == (0.35, 0.2, 0.3)
    training = config.training
    assert (training.batch_size, training.learning_rate, training.epochs) == (1024, 0.001, 550)
    assert (training.evaluate_every, training.patience) == (10, 100)


def test_what_is_not_mapped_is_named_with_a_reason(tmp_path: Path) -> None:
    _, not_mapped = load(tmp_path, NESTED)
    named = "\n".join(not_mapped)
    for key in ("group_embedding_dim", "dropout", "topo_samples", "wandb", "families.initial.in_channels"):
        assert key in named
    assert "informativeness_weight: 0.12 (training.informativeness_weight: 0.1 counts)" in not_mapped
    for key in (
        "use_ema",
        "enabled",
        "dead_code_reset_interval",
        "manual_dim",
        "encode_manual",
        "orthogonality_weight",
        "batch_norm",
    ):
        assert key not in named, "what happens anyway is no news"


def test_a_flat_file_of_the_older_form_is_mapped(tmp_path: Path) -> None:
    config, not_mapped = load(
        tmp_path,
        {
            "input_path": "a.h5",
            "feature_family": "summary",
            "epochs": 500,
            "ema_decay": 0.98,
            "normalization_method": "mad",
        },
    )
    assert config.prepare.families is not None and list(config.prepare.families) == ["summary"]
    assert config.prepare.families["summary"].encoder == "identity"
    assert (config.training.epochs, config.quantizer.ema_decay, config.prepare.normalization) == (500, 0.98, "robust")
    assert not_mapped == []


def test_without_families_all_of_the_dataset_are_taken(tmp_path: Path) -> None:
    assert load(tmp_path, {"dataset_path": "a.h5"})[0].prepare.families is None


@pytest.mark.parametrize(
    ("ratios", "strategy", "given"),
    [
        ({}, "uniform", None),
        ({"compression_ratios": "auto"}, "balanced", None),
        ({"compression_ratios": "auto", "auto_compression_strategy": "variance"}, "variance", None),
        ({"compression_ratios": "0.5:1:1.5"}, "uniform", None),
        ({"compression_ratios": [0.5, 1, 1.5]}, "uniform", None),
        ({"compression_ratios": "0.3:0.8:1.8"}, "given", (0.3, 0.8, 1.8)),
        ({"compression_ratios": {"cluster_1": [0.3, 0.8, 1.8]}}, "given", {"cluster_1": (0.3, 0.8, 1.8)}),
        (
            {"compression_ratios": "auto", "compression_ratios_per_category": {"a": [0.3, 0.8, 1.8], "b": "1:2:3"}},
            "given",
            {"a": (0.3, 0.8, 1.8), "b": (1.0, 2.0, 3.0)},
        ),
    ],
)
def test_ratios(tmp_path: Path, ratios: dict[str, Any], strategy: str, given: Any) -> None:
    config, not_mapped = load(tmp_path, {"dataset_path": "a.h5", "model": ratios})
    assert (config.compression.strategy, config.compression.capacity) == (strategy, "latent")
    assert given is None or config.compression.given == given
    assert not_mapped == []


def test_categories_by_column_are_named_and_those_of_an_export_are_read_by_name(tmp_path: Path) -> None:
    tree = {"dataset_path": "a.h5", "training": {"category_mapping_file": str(tmp_path / "t.columns.json")}}
    config, not_mapped = load(tmp_path, tree)
    assert config.prepare.categories.mapping is None
    assert [line.split(" (")[0] for line in not_mapped] == ["category_mapping_file"]
    (tmp_path / "t.categories.json").write_text("{}")
    config, not_mapped = load(tmp_path, tree)
    assert (config.prepare.categories.mapping, not_mapped) == (str(tmp_path / "t.categories.json"), [])


def test_codes_of_levels_are_named_unless_their_categories_can_be(tmp_path: Path) -> None:
    levels = [{"num_tokens": codes, "latent_dim": 8} for codes in (48, 13, 1)]
    model = {"factors": {"cluster_1": levels}}
    tree = {"dataset_path": "a.h5", "model": model}
    config, not_mapped = load(tmp_path, tree)
    assert (config.compression.strategy, not_mapped) == (
        "uniform",
        ["factors (sizes follow from the ratios, on three levels)"],
    )
    (tmp_path / "t.categories.json").write_text(json.dumps({"cluster_1": [f"s::{i}" for i in range(14)]}))
    tree["training"] = {"category_mapping_file": str(tmp_path / "t.columns.json")}
    config, not_mapped = load(tmp_path, tree)
    assert (config.compression.strategy, config.compression.capacity, not_mapped) == ("given", "codes", [])
    assert isinstance(config.compression.given, dict)
    bits = np.log2(published_codes(14)) * config.compression.given["cluster_1"] / UNIFORM_RATIOS
    assert 2**bits == pytest.approx([48, 13, 1], rel=0.05)


@pytest.mark.parametrize("name", ["InitialCNNEncoder", "ic_cnn", "ICCNNEncoder"])
def test_a_cnn_of_the_fields_comes_with_their_manual_features_and_says_so(tmp_path: Path, name: str) -> None:
    family = {"encoder": name, "encoder_params": {"embedding_dim": 12, "architecture": "resnet3"}}
    config, not_mapped = load(tmp_path, {"families": {"initial": family}})
    assert config.prepare.families is not None
    encoder = config.prepare.families["initial"].model_dump()
    assert encoder == {"encoder": "initial_hybrid", "embedding": 12, "seed": 42, "calibrate": False}
    assert not_mapped == ["families.initial.encoder (the CNN comes with the manual features of the fields here)"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("InitialHybridEncoder", "initial_hybrid"), ("td_cnn", "temporal_cnn"), ("TDCNNEncoder", "temporal_cnn")],
)
def test_every_name_of_an_encoder_is_known(tmp_path: Path, theirs: str, ours: str) -> None:
    config, not_mapped = load(tmp_path, {"families": {"f": {"encoder": theirs, "encoder_params": {}}}})
    assert config.prepare.families is not None
    assert (config.prepare.families["f"].encoder, not_mapped) == (ours, [])


def test_limits_of_cleaning_are_mapped_and_none_is_no_limit(tmp_path: Path) -> None:
    cleaning = {"max_variance_threshold": 1e8, "max_cv_threshold": 50}
    config, not_mapped = load(tmp_path, {"dataset_path": "a.h5", "feature_cleaning": cleaning})
    assert (config.prepare.cleaning.max_variance, config.prepare.cleaning.max_variation) == (1e8, 50)
    config, _ = load(tmp_path, {"dataset_path": "a.h5", "max_variance_threshold": None})
    assert config.prepare.cleaning.max_variance > 1e300
    assert not_mapped == []


def test_how_categories_are_assigned_is_named_where_it_is_another_way(tmp_path: Path) -> None:
    assignment = {"method": "clustering", "isolated_families": [], "reassign_orphans": True, "device": "cuda"}
    tree = {"dataset_path": "a.h5", "device": "cpu", "training": {"category_assignment_config": assignment}}
    config, not_mapped = load(tmp_path, tree)
    assert (config.training.device, not_mapped) == ("cpu", ["clustering_device (changes no result)"])
    assignment.update(method="hybrid", isolated_families=["initial"], reassign_orphans=False)
    named = load(tmp_path, tree)[1]
    assert {line.split(" (")[0] for line in named} > {"method", "isolated_families", "reassign_orphans"}


def test_the_earlier_form_of_its_configs_is_mapped(tmp_path: Path) -> None:
    tree = {
        "dataset": {"path": "a.h5", "feature_families": ["summary", "architecture"]},
        "normalization": {"method": "mad", "robust": False},
        "training": {"num_epochs": 9, "validation_frequency": 3, "validation_split": 0.1},
        "model": {
            "group_embedding_dim": 64,
            "category_discovery": {"assignment": "auto", "categories": "auto"},
            "category_levels_template": {"levels": [], "compression_ratios": "0.4:1:1.8"},
        },
        "output": {"checkpoint_dir": "c", "save_best_only": False},
    }
    config, not_mapped = load(tmp_path, tree)
    assert (config.prepare.dataset, list(config.prepare.families or {})) == ("a.h5", ["summary", "architecture"])
    assert (config.prepare.normalization, config.prepare.categories.count) == ("robust", None)
    assert (config.training.epochs, config.training.evaluate_every) == (9, 3)
    assert config.compression.given == (0.4, 1.0, 1.8)
    assert not any("unknown" in line for line in not_mapped)


@pytest.mark.parametrize("key", sorted({*AS_HERE} - {"resume_from"}))
def test_a_value_that_differs_from_what_happens_is_named(tmp_path: Path, key: str) -> None:
    (same, *_), reason = AS_HERE[key]
    assert load(tmp_path, {"dataset_path": "a.h5", key: same})[1] == []
    assert load(tmp_path, {"dataset_path": "a.h5", key: "another"})[1] == [f"{key} ({reason})"]


def test_every_key_leads_to_one_place_and_every_setting_is_there() -> None:
    assert not {*SETTINGS} & {*AS_HERE} and not {*SETTINGS, *AS_HERE} & {*NO_COUNTERPART}
    for name in {name for names in SETTINGS.values() for name in names}:
        node: Any = TrialConfig().model_dump()
        for part in name.split("."):
            assert part in node, name
            node = node[part]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset_path: a.h5\ntraining:\n  batch_size: many\n", r"line 3: training\.batch_size.*found 'many'"),
        ("dataset_path: a.h5\nmodel: {compression_ratios: 'a:b:c'}\n", "line 2: compression_ratios: expected 'auto'"),
        ("dataset_path: a.h5\nmodel: {compression_ratios: 3}\n", "line 2: compression_ratios: expected 'auto'"),
        (
            "families:\n  temporal: {encoder: MPLEncoder}\n",
            "line 2.*no encoder 'MPLEncoder'.*did you mean 'MLPEncoder'",
        ),
        ("families:\n  summary:\n    encoder: MLPEncoder\n    encoder_params: {output_dim: 0}\n", "line 2: .*output"),
        ("families: [summary]\n", "line 1: families: expected a mapping"),
        ("dataset_path: a.h5\nfeature_families: 3\n", "line 2: feature_families: expected a name or a list"),
        ("families: {summary: mlp}\n", r"line 1: families\.summary: expected a mapping, found 'mlp'"),
        ("dataset_path: a.h5\nmodel: 3\n", "line 2: model: expected a mapping"),
        ("families: {summary: {encoder: mlp, encoder_params: 3}}\n", r"families\.summary\.encoder_params: expected"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_a_misspelt_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    _, not_mapped = load(tmp_path, {"dataset_path": "a.h5", "training": {"bach_size": 3}, "zzz": 1})
    assert not_mapped == ["zzz (unknown key)", "bach_size (unknown key; did you mean 'batch_size'?)"]


def test_our_own_configs_are_not_taken_for_spinlocks(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(dump_config(TrialConfig()))
    assert not is_spinlock_yaml(own)
    assert load_config(own) == TrialConfig()
    own.write_text("preset: spinlock\nrandom_seed: 3\n")
    assert not is_spinlock_yaml(own)
    with pytest.raises(ConfigError, match="line 2: unknown setting 'random_seed'"):
        load_config(own)


def test_keys_that_come_from_an_alias_are_read_too(tmp_path: Path) -> None:
    text = "base: &base {max_samples: 50}\ndataset_path: a.h5\n<<: *base\ntraining: {batch_size: [1]}\n"
    with pytest.raises(ConfigError, match=r"line 4: training\.batch_size"):
        load(tmp_path, text)
    config, not_mapped = load(tmp_path, text.replace("[1]", "16"))
    assert (config.prepare.max_samples, not_mapped) == (50, ["base (unknown key)"])
