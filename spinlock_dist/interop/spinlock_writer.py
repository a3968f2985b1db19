"""A trial written as Spinlock's training YAML, and what that cannot say, a line each: read back, what is another?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.config import FamilyEncoder, TrialConfig
from spinlock_dist.interop.spinlock_reader import ALIASES, ENCODERS, SETTINGS, parse_spinlock

SIMULATED = "operators.h5"
"""Dataset that is named where a study simulated its operators."""

KEYS: dict[str, tuple[str, ...]] = {
    # section of Spinlock's, empty for the top: keys of it whose values are settings here
    "": ("dataset_path", "max_samples", "random_seed"),
    "model": ("group_hidden_dim", "commitment_cost", "decay"),
    "feature_cleaning": ("variance_threshold", "deduplicate_threshold", "percentile_range"),
    "training": (
        *("batch_size", "learning_rate", "num_epochs", "val_every_n_epochs", "early_stopping_patience", "device"),
        *("normalization_method", "orthogonality_weight", "informativeness_weight", "topo_weight"),
        *("num_categories_auto", "max_clusters", "min_features_per_category"),
    ),
}

REASONS: dict[str, str] = {
    # setting or section: why its value cannot be said
    "prepare.split": "rows are split 90/10 by the one seed, none are kept for testing",
    "prepare.families": "encoders are random, frozen, seeded by the program and not calibrated",
    "prepare.cleaning": "there is no key for it",
    "prepare.normalization": "features are standardized, or scaled by their MAD",
    "model.levels": "levels are heads of one embedding",
    "model.decoder": "one decoder sees all tokens",
    "model.initialization": "codebooks start as noise",
    "quantizer": "codebooks follow by moving averages, and their care is its own",
    "loss.reconstruction_balance": "errors are weighed by feature",
    "training.schedule": "its schedules of the rate are others",
}


def to_spinlock(
    config: TrialConfig, ratios: Mapping[str, Sequence[float]], families: Sequence[str], mapping: str
) -> tuple[str, list[str]]:
    """A trial as YAML for Spinlock's `train-vqvae --config`, and a line on each thing it cannot say.

    `ratios` are those of L0, L1 and L2 by category, `families` the names of the data's, `mapping` the path of a file
    with the columns of each category.
    """
    tree = {
        **_section(config, ""),
        "families": _families(config, families),
        "model": {
            **_section(config, "model"),
            "use_ema": True,
            "compression_ratios": {name: [round(float(each), 6) for each in row] for name, row in ratios.items()},
        },
        "feature_cleaning": {**_section(config, "feature_cleaning"), "outlier_method": "percentile"},
        "training": {
            **_section(config, "training"),
            "optimizer": "adam",
            "category_assignment": "file",
            "category_mapping_file": mapping,
        },
    }
    notes = [*_compression(config), *_data(config), *_others(config, tree)]
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False), notes


class _Dumper(yaml.SafeDumper):
    """Lists in a line each, as Spinlock's own configs have them."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _section(config: TrialConfig, section: str) -> dict[str, Any]:
    values = {key: _value(config, key) for key in KEYS[section]}
    return {key: value for key, value in values.items() if value is not None}


def _value(config: TrialConfig, key: str) -> Any:
    """What a key of Spinlock's is given, None to leave it out."""
    value: Any = config.model_dump(mode="json")
    for part in SETTINGS[key][0].split("."):
        value = value[part]
    if key == "dataset_path":
        return value or SIMULATED
    if key == "early_stopping_patience":
        return value or config.training.epochs  # as many evaluations as it never has: no early stopping
    if key == "device":
        return None if value == "auto" else value
    if key == "normalization_method":
        return {"standard": "standard", "robust": "mad"}.get(value)
    return value


def _families(config: TrialConfig, names: Sequence[str]) -> dict[str, Any]:
    given = config.prepare.families
    if given is None:
        return {name: {"encoder": "IdentityEncoder"} for name in names}
    return {name: _encoder(encoder) for name, encoder in given.items()}


def _encoder(encoder: FamilyEncoder) -> dict[str, Any]:
    called = {here: there for there, here in reversed(ALIASES.items())}
    if encoder.encoder not in ENCODERS:
        return {"encoder": "IdentityEncoder"}  # reads back as another, and is named for that
    _, parameters, _ = ENCODERS[encoder.encoder]
    values = encoder.model_dump(mode="json")
    given = {there: values[here] for there, here in parameters.items()}
    spec: dict[str, Any] = {"encoder": called.get(encoder.encoder, encoder.encoder)}
    return spec | ({"encoder_params": given} if given else {})


# ---------------------------------------------------------------- what it cannot say


def _compression(config: TrialConfig) -> Iterator[str]:
    compression = config.compression
    if get_strategy(compression.strategy).measured:
        yield f"compression.strategy {compression.strategy}: no pilots are run there; its ratios are what they came to"
    elif compression.strategy != "uniform":
        yield f"compression.strategy {compression.strategy}: given as its ratios, which other data will not move"
    if compression.capacity != "latent":
        yield (
            f"compression.capacity {compression.capacity}: ratios move latent dimensions alone there, and codebooks "
            "have their published sizes; where this trial put its bits is not carried over"
        )
    else:
        yield "compression.capacity latent: latent dimensions are not rescaled to the uniform total there"
    if config.quantizer.kind != "ema":
        yield f"quantizer.kind {config.quantizer.kind}: there are learned codebooks alone"


def _data(config: TrialConfig) -> Iterator[str]:
    if config.prepare.dataset is None:
        given = " ".join(f"--{name} {value}" for name, value in config.prepare.simulator.model_dump().items())
        yield f"dataset_path: simulated; write it with: python -m spinlock_dist.generate {given} --out {SIMULATED}"
    if config.prepare.families is None:
        yield "prepare.families null: families are named there, and one of sequences needs TemporalCNNEncoder"
    yield "loss weights: they weigh errors in units of FVU here, summed squared errors there"


def _others(config: TrialConfig, tree: dict[str, Any]) -> Iterator[str]:
    """Yield, by reason, a line with the settings that reading the file again gives another value."""
    back, _ = parse_spinlock(tree, {}, "the export")
    ours, theirs = dict(_flat(config.model_dump(mode="json"))), dict(_flat(back.model_dump(mode="json")))
    unsaid: dict[str, list[str]] = {}
    for name, value in ours.items():
        if (name not in theirs or theirs[name] != value) and not _said_otherwise(name, config):
            found = [reason for start, reason in REASONS.items() if name.startswith(start)]
            unsaid.setdefault(found[0] if found else "there is no key for it", []).append(f"{name} {_word(value)}")
    yield from (f"{', '.join(settings)}: {reason}" for reason, settings in unsaid.items())


def _said_otherwise(name: str, config: TrialConfig) -> bool:
    """Whether a setting is spoken of in another line, or nothing reads it in this config."""
    if name.startswith(("compression.", "prepare.simulator.", "prepare.dataset")):
        return True
    if name in ("quantizer.kind", "prepare.families", "prepare.categories.mapping", "prepare.categories.only_mapped"):
        return True
    if name == "training.patience":
        return config.training.patience is None
    return name == "model.shared_hidden" and config.model.decoder != "shared"


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{path}{key}"
        if isinstance(value, dict) and value and name != "prepare.families":
            yield from _flat(value, f"{name}.")
        elif isinstance(value, dict):
            yield from ((f"{name}.{family}", encoder) for family, encoder in value.items())
        else:
            yield name, value


def _word(value: Any) -> str:
    return "null" if value is None else str(value).replace("'", "")
