"""Spinlock's own training YAML, read as a trial config: the preset `spinlock` with what the file says put over it.

Its keys stand at the top of the file or in the sections below; what has no counterpart here is named, never dropped in
silence.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinlock_dist.categories.mapping import read_names
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.compression.uniform_baseline import published_codes
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.documents import read_document
from spinlock_dist.errors import ConfigError, did_you_mean
from spinlock_dist.given_ratios import MAX_RATIO, read_given
from spinlock_dist.preset import merge, read_preset

COLUMNS, NAMES = ".columns.json", ".categories.json"
"""How the files end that an export writes: categories by column number, and by name."""
MARKS = {"dataset_path", "input_path", "families", "random_seed"}
"""Top-level keys that nearly every config of Spinlock has and none of ours can have."""
SECTIONS = ("model", "training", "logging", "feature_cleaning", "category_assignment_config")
OLD_SECTIONS = ("dataset", "normalization", "output", "category_discovery", "category_levels_template")
"""Sections of an earlier form of its configs, in which a key can mean what another is called now."""
CALLED_NOW = {
    # section and key: the key that says the same where sections do not tell
    ("category_assignment_config", "device"): "clustering_device",
    ("dataset", "path"): "dataset_path",
    ("normalization", "method"): "normalization_method",
    ("category_discovery", "assignment"): "category_assignment",
    ("category_discovery", "categories"): "num_categories_auto",
}

SETTINGS: dict[str, tuple[str, ...]] = {
    # key of Spinlock: the settings here that take its value
    "dataset_path": ("prepare.dataset",),
    "input_path": ("prepare.dataset",),
    "max_samples": ("prepare.max_samples",),
    "random_seed": ("seed", "prepare.split.seed"),
    "seed": ("seed", "prepare.split.seed"),
    "device": ("training.device",),
    "max_variance_threshold": ("prepare.cleaning.max_variance",),
    "max_cv_threshold": ("prepare.cleaning.max_variation",),
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
    "validation_frequency": ("training.evaluate_every",),
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
    "levels": ((None, []), "nothing reads it there: sizes follow from the ratios, on three levels, as here"),
    "category_assignment": (
        ("auto", "file", None),
        "categories are discovered; prepare.categories.mapping takes a file",
    ),
    "clean_features": ((True,), "features are always cleaned"),
    "enabled": ((True,), "features are always cleaned"),
    "pre_categorization": ((True,), "features are cleaned before categories are discovered"),
    "use_intelligent_dedup": ((True,), "of two duplicates the more informative is kept"),
    "outlier_method": (("percentile",), "outliers are clipped at percentiles"),
    "robust": ((False, None), "normalization_method says which it is"),
    "uniform_codebook_init": ((False, None), "each level has codebooks of its own size from the start"),
    "use_smart_reset": ((False, None), "unused codes stay; quantizer.expiry_share revives them"),
    "method": (("clustering", None), "categories are found by clustering alone, no gradients refine them"),
    "isolated_families": (
        (None, []),
        "all families are clustered together; prepare.categories.mapping can keep one apart",
    ),
    "reassign_orphans": ((True,), "no feature is left out: small clusters are merged into the nearest"),
    "validation_split": ((0.1,), "prepare.split says which rows validate and which test"),
    "feature_type": (("aggregated", None), "a family is read as a whole"),
    "dead_code_reset_interval": ((0, None), "unused codes stay; quantizer.expiry_share revives them"),
    "resume_from": ((None,), "a training starts anew"),
}

NO_COUNTERPART: dict[str, str] = {
    "group_embedding_dim": "levels read a category's features; there is no embedding between",
    "dropout": "there is no dropout: on what is quantized it costs error",
    "early_stopping_min_delta": "any lower error of the worst category counts as better",
    "orthogonality_target": "the number of categories is chosen by silhouette",
    **dict.fromkeys(
        ("mad_threshold", "mad_outlier_threshold", "iqr_multiplier"), "outliers are clipped at percentiles"
    ),
    **dict.fromkeys(
        ("gradient_epochs", "gradient_lr", "subsample_excess_fraction"),
        "categories are found by clustering alone, no gradients refine them",
    ),
    **dict.fromkeys(
        ("dead_code_threshold", "dead_code_threshold_percentile", "dead_code_max_reset_fraction"),
        "unused codes stay; quantizer.expiry_share revives them",
    ),
    **dict.fromkeys(
        ("output_dir", "checkpoint_dir", "save_every", "save_best_only", "save_final_model"),
        "--out names the folder of the checkpoint",
    ),
    **dict.fromkeys(
        (
            *("task", "verbose", "wandb", "log_interval", "eval_interval"),
            *("use_torch_compile", "clustering_device", "val_batch_size", "hdf5_chunk_size", "encode_chunk_size"),
        ),
        "changes no result",
    ),
}

SPECIAL = (
    *("families", "feature_families", "feature_family", "category_mapping_file"),
    *("compression_ratios", "compression_ratios_per_category", "auto_compression_strategy", "factors"),
)

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
    "initial_cnn": (
        {"encoder": "initial_hybrid", "calibrate": False},
        {"embedding_dim": "embedding"},
        {"architecture": ("resnet3",)},
    ),
}
MORE_THAN_ASKED = {"initial_cnn": "the CNN comes with the manual features of the fields here"}
"""Encoders that stand for another which does less, and what they do beside."""
ALIASES = {
    "IdentityEncoder": "identity",
    "MLPEncoder": "mlp",
    "TemporalCNNEncoder": "temporal_cnn",
    "td_cnn": "temporal_cnn",
    "TDCNNEncoder": "temporal_cnn",
    "InitialHybridEncoder": "initial_hybrid",
    "InitialCNNEncoder": "initial_cnn",
    "ic_cnn": "initial_cnn",
    "ICCNNEncoder": "initial_cnn",
}
"""Its names of encoders, those of earlier versions among them."""


SAME_VALUE: dict[tuple[str, str | None], Any] = {
    # key of Spinlock and its value: what the setting here calls it
    ("normalization_method", "mad"): "robust",
    ("num_categories_auto", "auto"): None,
    ("max_variance_threshold", None): sys.float_info.max,  # no limit
}

LEAST_RATIO = 0.01
"""Of a level that has one code: a ratio is above 0."""

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
    if not isinstance(tree, dict) or "preset" in tree:
        return False
    model = tree.get("model")
    return bool(MARKS & tree.keys()) or (isinstance(model, dict) and "group_embedding_dim" in model)


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
    _read_mapping(given, reading)
    _read_ratios(given, reading)
    config_tree = merge(read_preset("spinlock", source), _nested(reading.settings))
    config_tree["prepare"]["families"] = reading.settings["prepare.families"]
    config = parse_config(TrialConfig, config_tree, source, reading.lines)
    return config, [f"{', '.join(keys)} ({reason})" for reason, keys in reading.not_mapped.items()]


def _flattened(tree: dict[Any, Any], lines: dict[tuple[Any, ...], int], reading: _Reading) -> Given:
    """Keys without their sections; of a key in two of them the later counts, as in Spinlock."""
    found: Given = {}
    for path, value in _places(tree, (), lines, reading):
        key = CALLED_NOW.get(path[-2:], str(path[-1]))
        if key in found and found[key][0] != value:
            reading.pass_over(f"{key}: {found[key][0]}", f"{'.'.join(map(str, path))}: {value} counts")
        found[key] = (value, lines.get(path))
    return found


def _places(
    tree: dict[Any, Any], path: tuple[Any, ...], lines: dict[tuple[Any, ...], int], reading: _Reading
) -> list[tuple[tuple[Any, ...], Any]]:
    """Every key that is no section with its place, those of sections after those beside them."""
    known = [*SECTIONS, *(name for name in OLD_SECTIONS if isinstance(tree.get(name), dict))]
    places = [((*path, key), value) for key, value in tree.items() if key not in known]
    for section in (name for name in known if name in tree):
        within = (*path, section)
        inner = reading.mapping(tree[section], ".".join(map(str, within)), lines.get(within))
        places += _places(inner, within, lines, reading)
    return places


def _read_key(key: str, value: Any, line: int | None, reading: _Reading) -> None:
    if key in SPECIAL:
        return
    if key in SETTINGS:
        value = SAME_VALUE.get((key, value), value) if isinstance(value, str | None) else value
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
    if name in MORE_THAN_ASKED:
        reading.pass_over(f"{where}.encoder", MORE_THAN_ASKED[name])
    encoder = dict(start)
    for key, value in reading.mapping(spec.get("encoder_params"), f"{where}.encoder_params", line).items():
        if key in settings:
            encoder[settings[key]] = value
        elif key not in same or value not in (same[key] or (value,)):
            reading.pass_over(f"{where}.{key}", f"the encoder here is {start['encoder']}, which has no such setting")
    return encoder


# ---------------------------------------------------------------- ratios


def _read_mapping(given: Given, reading: _Reading) -> None:
    """Take the categories of a mapping file by name, if an export of ours wrote them beside its column numbers."""
    columns, line = given.get("category_mapping_file", (None, None))
    if columns is None:
        return
    names = Path(str(columns).removesuffix(COLUMNS) + NAMES)
    if str(columns).endswith(COLUMNS) and names.is_file():
        reading.set("prepare.categories.mapping", str(names), line)
    else:
        reading.pass_over(
            "category_mapping_file",
            "its numbers count the columns that its own cleaning keeps; prepare.categories.mapping takes feature names",
        )


def _read_ratios(given: Given, reading: _Reading) -> None:
    """Set the strategy: ratios by category count first, as there, then codes, then those of all; else uniform."""
    ratios, line = given.get("compression_ratios", (None, None))
    by_category, own_line = given.get("compression_ratios_per_category", (None, None))
    levels, levels_line = given.get("factors", (None, None))
    if by_category is not None:
        ratios, line = by_category, own_line
    elif levels:
        _read_codes(levels, levels_line, reading)
        return
    if ratios == "auto":
        reading.set("compression.strategy", *given.get("auto_compression_strategy", ("balanced", line)))
        return
    stated = UNIFORM_RATIOS if ratios is None else _given(ratios, line, reading)
    reading.set("compression.strategy", "uniform" if stated == UNIFORM_RATIOS else "given", line)
    if stated != UNIFORM_RATIOS:
        reading.set("compression.given", stated, line)


def _read_codes(levels: Any, line: int | None, reading: _Reading) -> None:
    """Set the ratios that buy the codes of each level, where the categories they are of can be named."""
    mapping = reading.settings.get("prepare.categories.mapping")
    names = read_names(mapping) if mapping else {}
    try:
        ratios = {name: _bought(len(names[name]), row) for name, row in levels.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        reading.set("compression.strategy", "uniform", line)
        reading.pass_over("factors", "sizes follow from the ratios, on three levels")
        return
    reading.set("compression.strategy", "given", line)
    reading.set("compression.given", ratios, line)
    reading.set("compression.capacity", "codes", line)


def _bought(features: int, levels: Any) -> list[float]:
    """The ratios at which a category of so many features has these codes at its three levels."""
    parts = zip(levels, UNIFORM_RATIOS, published_codes(features), strict=True)
    ratios = [uniform * math.log2(int(level["num_tokens"])) / math.log2(codes) for level, uniform, codes in parts]
    return [min(max(ratio, LEAST_RATIO), MAX_RATIO) for ratio in ratios]


def _given(ratios: Any, line: int | None, reading: _Reading) -> Any:
    try:
        return read_given(ratios if isinstance(ratios, dict | list) or ":" in str(ratios) else None)
    except ValueError as error:
        wanted = "expected 'auto', 'L0:L1:L2', a list or a mapping per category"
        raise reading.error(line, f"compression_ratios: {wanted}: {error}") from None


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
