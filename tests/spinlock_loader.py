"""What Spinlock's `train-vqvae --config` asks of its files and makes of them, as far as exports use it (4937a07).

Written from how it was seen to behave: what it refuses to start without, which keys it looks at, in which order columns
and sizes come about. Nothing here is forgiving: a key that it would look at and is not described here fails.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from torch import nn

REQUIRED = {
    "": ("dataset_path", "families", "model", "training"),
    "training": ("num_epochs", "batch_size", "checkpoint_dir", "learning_rate"),
    "model": ("group_embedding_dim", "group_hidden_dim"),
}
LOOKED_AT = {
    *("dataset_path", "random_seed", "device", "families", "feature_cleaning", "model", "training"),
    *("group_embedding_dim", "group_hidden_dim", "commitment_cost", "ema_decay", "use_ema", "factors"),
    *("compression_ratios_per_category", "num_epochs", "batch_size", "checkpoint_dir", "learning_rate", "optimizer"),
    *("val_every_n_epochs", "early_stopping_patience", "normalization_method", "orthogonality_weight"),
    *("informativeness_weight", "topo_weight", "category_assignment", "category_mapping_file"),
}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What it would train on: features `[N, D]`, columns of each category, codes and latent dims of its levels."""

    features: np.ndarray
    categories: dict[str, list[int]]
    codes: list[list[int]]
    dims: list[list[int]]
    settings: dict[str, Any]
    """All keys without their sections."""


def load_as_spinlock(config: Path) -> Loaded:
    """Read a config and the files it names as Spinlock would; an `AssertionError` says what it would stumble over."""
    tree = yaml.safe_load(config.read_text())
    for section, keys in REQUIRED.items():
        missing = [key for key in keys if key not in (tree[section] if section else tree)]
        assert not missing, f"{section or 'top'}: {missing}"
    settings = {key: value for key, value in tree.items() if key not in ("model", "training")}
    settings |= tree["model"] | tree["training"]
    assert set(tree) | set(settings) <= LOOKED_AT
    features = _features(Path(settings["dataset_path"]), tree["families"])
    assert settings["feature_cleaning"] == {"enabled": False}, "its cleaning would choose other columns"
    assert settings["category_assignment"] != "auto", "it would find its own categories"
    categories = _categories(Path(settings["category_mapping_file"]), features.shape[1])
    codes, dims = _sizes(settings, {name: len(columns) for name, columns in categories.items()})
    return Loaded(features=features, categories=categories, codes=codes, dims=dims, settings=settings)


def _features(path: Path, families: dict[str, Any]) -> np.ndarray:
    found = []
    with h5py.File(path) as file:
        for family, spec in families.items():
            assert spec["encoder"] == "IdentityEncoder", "any other encoder makes other features"
            assert spec["encoder_params"] == {}
            group = "features/temporal" if family == "temporal" else f"features/{family}/aggregated"
            values = np.asarray(file[group]["features"])
            assert values.ndim == 2, f"{family}: {values.ndim}D after encoding"
            assert np.isfinite(values).all(), "what is missing would be 0"
            found.append(values)
    return np.concatenate(found, axis=1)


def _categories(path: Path, width: int) -> dict[str, list[int]]:
    mapping: dict[str, list[int]] = json.loads(path.read_text())
    columns = [column for row in mapping.values() for column in row]
    assert all(type(column) is int for column in columns)
    assert sorted(columns) == list(range(width)), "a column in no category would be a target in raw units"
    nn.ModuleDict({name: nn.Identity() for name in mapping})  # raises for a name that it cannot have
    return mapping


def _sizes(settings: dict[str, Any], sizes: dict[str, int]) -> tuple[list[list[int]], list[list[int]]]:
    ratios, levels = settings.get("compression_ratios_per_category"), settings.get("factors")
    if ratios is not None:
        # Heads are made in the order of the ratios, quantizers in that of the categories.
        assert list(ratios) == list(sizes)
        codes = [_rule(size) for size in sizes.values()]
        dims = [[max(4, 4 * math.ceil(sizes[name] * each / 4)) for each in row] for name, row in ratios.items()]
        return codes, dims
    assert list(levels) == list(sizes)
    assert all(
        len(row) == 3 and all(level.keys() == {"num_tokens", "latent_dim"} for level in row) for row in levels.values()
    )
    pick = lambda key: [[level[key] for level in row] for row in levels.values()]  # noqa: E731
    return pick("num_tokens"), pick("latent_dim")


def _rule(size: int) -> list[int]:
    base = int(7 * math.log2(size))
    return [max(15, base // 4 * 4), max(6, base // 2), max(6, base // 4)]
