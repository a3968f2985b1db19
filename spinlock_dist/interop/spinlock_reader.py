"""Spinlock's own training YAML, read as a trial config: the preset `spinlock` with what the file says put over it.

Its keys stand at the top of the file or in the sections below; what has no counterpart here is named, never dropped in
silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.documents import read_document
from spinlock_dist.errors import ConfigError, did_you_mean
from spinlock_dist.preset import merge, read_preset

MARKS = {"dataset_path", "input_path", "families", "random_seed"}
"""Top-level keys that nearly every config of Spinlock has and none of ours can have."""
SECTIONS = ("model", "training", "logging", "feature_cleaning")

SETTINGS: dict[str, tuple[str, ...]] = {
    # key of Spinlock: the settings here that take its value
    "dataset_path": ("prepare.dataset",),
    "input_path": ("prepare.dataset",),
    "max_samples": ("prepare.max_samples",),
    "random_seed": ("seed", "prepare.split.seed"),
    "seed": ("seed", "prepare.split.seed"),
    "device": ("training.device",),
    "variance_threshold": ("prepare.cleaning.min_std",),  # its code compares the standard deviation, as here
    "deduplicate_threshold": ("prepare.cleaning.max_correlation",),
    "percentile_range": ("prepare.cleaning.clip_percentiles",),
    "normalization_method": ("prepare.normalization",),
    "num_categories_auto": ("prepare.categories.count",),
    "max_clusters": ("prepare.categories.max_count",),
    "min_features_per_category": ("prepare.categories.min_features",),
    "group_hidden_dim": ("model.hidden",),
    "decay": ("quantizer.ema_decay",),
    "ema_decay": ("quantizer.ema_decay",),
    "commitment_cost": ("loss.commitment",),
    "orthogonality_weight": ("loss.orthogonality",),
    "informativeness_weight": ("loss.informativeness",),
    "topo_weight": ("loss.topographic",),
    "batch_size": ("training.batch_size",),
    "learning_rate": ("training.learning_rate",),
    "num_epochs": ("training.epochs",),
    "epochs": ("training.epochs",),
    "val_every_n_epochs": ("training.evaluate_every",),
    "val_every": ("training.evaluate_every",),
    "early_stopping_patience": ("training.patience",),  # both count evaluations
}

AS_HERE: dict[str, tuple[tuple[Any, ...], str]] = {
    # key of Spinlock: the values that say what happens here anyway, and what to know where it says another
    "optimizer": (("adam", "Adam"), "the optimizer is Adam"),
    "scheduler": ((None,), "the learning rate stays as it is"),
    "warmup_epochs": ((0, None), "the learning rate stays as it is"),
    "gradient_clip_norm": ((None,), "gradients are not clipped"),
    "reconstruction_weight": ((1,), "reconstruction has weight 1, the other terms are relative to it"),
    "vq_weight": ((1,), "reconstruction has weight 1, the other terms are relative to it"),
    "entropy_weight": ((0, None), "there is no such loss term"),
    "reference_reg_weight": ((0, None), "there is no such loss term"),
    "topo_samples": ((64, None), "the topographic term sees 64 rows of a batch"),
    "use_ema": ((True,), "codebooks follow by moving averages"),
    "levels": ((None, []), "sizes follow from the ratios, on three levels"),
    "factors": ((None, []), "sizes follow from the ratios, on three levels"),
    "category_assignment": (
        ("auto", "file", None),
        "categories are discovered; prepare.categories.mapping takes a file",
    ),
    "category_mapping_file": ((None,), "prepare.categories.mapping takes feature names, not column numbers"),
    "clean_features": ((True,), "features are always cleaned"),
    "enabled": ((True,), "features are always cleaned"),
    "pre_categorization": ((True,), "features are cleaned before categories are discovered"),
    "use_intelligent_dedup": ((True,), "of two duplicates the more informative is kept"),
    "outlier_method": (("percentile",), "outliers are clipped at percentiles"),
    "feature_type": (("aggregated", None), "a family is read as a whole"),
    "dead_code_reset_interval": ((0, None), "unused codes stay; quantizer.expiry_share revives them"),
    "resume_from": ((None,), "a training starts anew"),
}

NO_COUNTERPART: dict[str, str] = {
    "group_embedding_dim": "levels read a category's features; there is no embedding between",
    "dropout": "there is no dropout: on what is quantized it costs error",
    "uniform_codebook_init": "codebooks start as noise, each of its own size",
    "early_stopping_min_delta": "any lower error of the worst category counts as better",
    "orthogonality_target": "the number of categories is chosen by silhouette",
    "category_assignment_config": "all families are clustered together, small clusters merged into the nearest",
    "mad_threshold": "outliers are clipped at percentiles",
    **dict.fromkeys(
        ("dead_code_threshold", "dead_code_max_reset_fraction"),
        "unused codes stay; quantizer.expiry_share revives them",
    ),
    **dict.fromkeys(("output_dir", "checkpoint_dir", "save_every"), "--out names the folder of the checkpoint"),
    **dict.fromkeys(
        (
            *("task", "verbose", "wandb", "log_interval", "eval_interval"),
            *("use_torch_compile", "val_batch_size", "hdf5_chunk_size", "encode_chunk_size"),
        ),
        "changes no result",
    ),
}

SPECIAL = ("families", "feature_families", "feature_family", "compression_ratios", "auto_compression_strategy")

ENCODERS: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, tuple[Any, ...] | None]]] = {
    # name: the encoder here, its parameters that have a setting, and of others the values that say what happens anyway;
    # None where any value does
    "identity": ({"encoder": "identity"}, {}, {}),
    "mlp": (
        {"encoder": "mlp", "calibrate": False},
        {"hidden_dims": "hidden", "output_dim": "output"},
        {"activation": ("relu",), "batch_norm": (True,), "dropout": None},  # frozen: dropout is off
    ),
    "temporal_cnn": (
        {"encoder": "temporal_cnn", "calibrate": False},
        {"embedding_dim": "embedding"},
        {"architecture": ("resnet1d_3",)},
    ),
    "initial_hybrid": (
        {"encoder": "initial_hybrid", "calibrate": False},
        {"cnn_embedding_dim": "embedding"},
        {
            "manual_dim": (14,),
            "encode_manual": (False,),
            "use_final_batchnorm": (False,),
            "pretrained_cnn_path": (None,),
        },
    ),
}
ALIASES = {
    "IdentityEncoder": "identity",
    "MLPEncoder": "mlp",
    "TemporalCNNEncoder": "temporal_cnn",
    "td_cnn": "temporal_cnn",
}


Given = dict[str, tuple[Any, int | None]]
"""Values and their lines by key; a key that comes from an alias has no line of its own."""


@dataclass
class _Reading:
    """What has been understood of a file: `settings` by dotted name, each with its line, and what has not."""

    source: str
    settings: dict[str, Any] = field(default_factory=dict)
    lines: dict[tuple[Any, ...], int] = field(default_factory=dict)
    not_mapped: dict[str, list[str]] = field(default_factory=dict)
    """Keys per reason."""

    def set(self, name: str, value: Any, line: int | None) -> None:
        self.settings[name] = value
        self.mark(tuple(name.split(".")), line)

    def mark(self, path: tuple[Any, ...], line: int | None) -> None:
        if line is not None:
            self.lines[path] = line

    def pass_over(self, key: str, reason: str) -> None:
        self.not_mapped.setdefault(reason, []).append(key)

    def error(self, line: int | None, message: str) -> ConfigError:
        where = self.source if line is None else f"{self.source}, line {line}"
        return ConfigError(f"{where}: {message}")

    def mapping(self, value: Any, name: str, line: int | None) -> dict[Any, Any]:
        """`value`, {} for nothing. Raises `ConfigError` unless it is a mapping."""
        if value is not None and not isinstance(value, dict):
            raise self.error(line, f"{name}: expected a mapping, found {value!r}")
        return value or {}


def is_spinlock_yaml(path: Path) -> bool:
    """Whether a YAML file has keys that Spinlock's training configs have and ours have not.

    Raises `ConfigError` if it cannot be read.
    """
    tree, _ = read_document(path)
    return isinstance(tree, dict) and "preset" not in tree and bool(MARKS & tree.keys())


def load_spinlock_yaml(path: Path) -> tuple[TrialConfig, list[str]]:
    """The trial config that says what Spinlock's YAML says, and per reason a line of keys not mapped.

    Raises `ConfigError`, with the line, for an impossible value or an encoder that there is not.
    """
    tree, lines = read_document(path)
    return parse_spinlock(tree, lines, str(path))


def parse_spinlock(
    tree: dict[Any, Any], lines: dict[tuple[Any, ...], int], source: str
) -> tuple[TrialConfig, list[str]]:
    """What `load_spinlock_yaml` does, of a file's content and the lines of its keys."""
    reading = _Reading(source)
    given = _flattened(tree, lines, reading)
    for key, (value, line) in given.items():
        _read_key(key, value, line, reading)
    _read_families(given, lines, reading)
    _read_ratios(given, reading)
    config_tree = merge(read_preset("spinlock", source), _nested(reading.settings))
    config_tree["prepare"]["families"] = reading.settings["prepare.families"]
    config = parse_config(TrialConfig, config_tree, source, reading.lines)
    return config, [f"{', '.join(keys)} ({reason})" for reason, keys in reading.not_mapped.items()]


def _flattened(tree: dict[Any, Any], lines: dict[tuple[Any, ...], int], reading: _Reading) -> Given:
    """Keys without their sections; of a key in two of them the later counts, as in Spinlock."""
    places: list[tuple[tuple[Any, ...], Any]] = [((key,), value) for key, value in tree.items() if key not in SECTIONS]
    for section in SECTIONS:
        inner = reading.mapping(tree.get(section), section, lines.get((section,)))
        places += [((section, key), value) for key, value in inner.items()]
    found: Given = {}
    for path, value in places:
        key = str(path[-1])
        if key in found and found[key][0] != value:
            reading.pass_over(f"{key}: {found[key][0]}", f"{'.'.join(map(str, path))}: {value} counts")
        found[key] = (value, lines.get(path))
    return found


def _read_key(key: str, value: Any, line: int | None, reading: _Reading) -> None:
    if key in SPECIAL:
        return
    if key in SETTINGS:
        value = "robust" if (key, value) == ("normalization_method", "mad") else value
        for name in SETTINGS[key]:
            reading.set(name, value, line)
    elif key in AS_HERE:
        same, reason = AS_HERE[key]
        if value not in same:
            reading.pass_over(key, reason)
    elif key in NO_COUNTERPART:
        reading.pass_over(key, NO_COUNTERPART[key])
    else:
        known = (*SETTINGS, *AS_HERE, *NO_COUNTERPART, *SPECIAL)
        near = did_you_mean(key, known)
        reading.pass_over(key, f"unknown key{near}" if "did you mean" in near else "unknown key")


# ---------------------------------------------------------------- families


def _read_families(given: Given, lines: dict[tuple[Any, ...], int], reading: _Reading) -> None:
    """Set the encoder of each family the file names; without any, every family in the dataset passes as it is."""
    families, line = given.get("families", (None, None))
    if families is None:
        names, line = given.get("feature_families", given.get("feature_family", (None, None)))
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list | None):
            raise reading.error(line, f"feature_families: expected a name or a list of names, found {names!r}")
        reading.set("prepare.families", names and {str(name): {"encoder": "identity"} for name in names}, line)
        return
    encoders = {}
    for family, spec in reading.mapping(families, "families", line).items():
        own_line = lines.get(("families", family), line)
        encoders[family] = _encoder(f"families.{family}", spec, own_line, reading)
        reading.mark(("prepare", "families", family), own_line)
    reading.set("prepare.families", encoders, line)


def _encoder(where: str, spec: Any, line: int | None, reading: _Reading) -> dict[str, Any]:
    spec = reading.mapping(spec, where, line)
    given = str(spec.get("encoder", "identity"))
    name = ALIASES.get(given, given)
    if name not in ENCODERS:
        near = did_you_mean(given, (*ENCODERS, *ALIASES))
        raise reading.error(line, f"{where}.encoder: there is no encoder '{given}' here{near}")
    start, settings, same = ENCODERS[name]
    encoder = dict(start)
    for key, value in reading.mapping(spec.get("encoder_params"), f"{where}.encoder_params", line).items():
        if key in settings:
            encoder[settings[key]] = value
        elif key not in same or value not in (same[key] or (value,)):
            reading.pass_over(f"{where}.{key}", f"the encoder here is {start['encoder']}, which has no such setting")
    return encoder


# ---------------------------------------------------------------- ratios


def _read_ratios(given: Given, reading: _Reading) -> None:
    """Set the strategy: the one named for `auto`, else uniform, the only ratios a config can give as numbers."""
    ratios, line = given.get("compression_ratios", (None, None))
    strategy, strategy_line = given.get("auto_compression_strategy", ("balanced", line))
    if ratios == "auto":
        reading.set("compression.strategy", strategy, strategy_line)
        return
    reading.set("compression.strategy", "uniform", line)
    uniform = ":".join(map(str, UNIFORM_RATIOS))
    if isinstance(ratios, dict):
        reading.pass_over("compression_ratios", f"a config names a strategy, not ratios per category; {uniform} used")
    elif ratios is not None and _triple(ratios, line, reading) != UNIFORM_RATIOS:
        reading.pass_over("compression_ratios", f"uniform ratios are {uniform} here, and these are used")


def _triple(ratios: Any, line: int | None, reading: _Reading) -> tuple[float, ...]:
    parts = ratios.split(":") if isinstance(ratios, str) else ratios
    try:
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise reading.error(
            line, f"compression_ratios: expected 'auto', 'L0:L1:L2', a list or a mapping per category, found {ratios!r}"
        ) from None


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
