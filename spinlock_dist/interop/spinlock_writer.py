"""A trial written as Spinlock's training YAML, and what that cannot say, a line each: read back, what is another?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from spinlock_dist.compression.capacity import CapacityPlan, latent_dim
from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.compression.uniform_baseline import published_codes
from spinlock_dist.config import CompressionConfig, TrialConfig
from spinlock_dist.interop.spinlock_reader import SETTINGS, parse_spinlock

EMBEDDING = 256
"""Width of a category's embedding, for which there is no setting here: that of Spinlock's own configs."""
DEVICE = "cpu"
"""What trains everywhere: without the key it takes CUDA, which a machine may not have."""
LARGEST_CODEBOOK = int(CompressionConfig.model_fields["max_codes"].default)
"""Codes of the one codebook that stands there for several of a level."""

KEYS: dict[str, tuple[str, ...]] = {
    # section of Spinlock's, empty for the top: keys of it whose values are settings here
    "": ("random_seed", "device"),
    "model": ("group_hidden_dim", "commitment_cost", "ema_decay"),
    "training": (
        *("batch_size", "learning_rate", "num_epochs", "val_every_n_epochs", "early_stopping_patience"),
        *("normalization_method", "orthogonality_weight", "informativeness_weight", "topo_weight"),
    ),
}

REASONS: dict[str, str] = {
    # setting or section: why its value cannot be said
    "prepare.split": "rows are split 90/10 by the one seed, none are kept for testing",
    "prepare.normalization": "features are standardized, or scaled by their MAD",
    "model.levels": "levels are heads of one embedding",
    "model.decoder": "one decoder sees all tokens",
    "model.initialization": "codebooks start as noise",
    "quantizer": "codebooks follow by moving averages, and their care is its own",
    "loss.reconstruction_balance": "errors are weighed by feature",
    "training.schedule": "its schedules of the rate are others",
    "training.device": f"trained on {DEVICE} there, unless --device says otherwise",
}

IN_THE_DATA = ("prepare.dataset", "prepare.simulator.", "prepare.max_samples", "prepare.linked_files")
SAID_OTHERWISE = (*IN_THE_DATA, "prepare.families", "prepare.cleaning.", "prepare.categories.", "compression.")
"""Settings that the dataset, the categories and the sizes beside the YAML carry, or another line speaks of."""


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What goes with a trial's settings: its categories and sizes, and where the files beside the YAML are."""

    categories: Mapping[str, int]
    """Number of columns by category, in the order of `plan`."""
    plan: CapacityPlan
    families: Sequence[str]
    """In the order of the columns."""
    dataset: str
    mapping: str
    """Column numbers of each category."""
    checkpoints: str
    """Folder that the training there writes to."""


def to_spinlock(config: TrialConfig, carried: Carried) -> tuple[str, list[str]]:
    """A trial as YAML for Spinlock's `train-vqvae --config`, and a line on each thing it cannot say.

    Its features are those that this program encoded and cleaned, so that every family passes as it is.
    """
    tree: dict[str, Any] = {
        "dataset_path": carried.dataset,
        **_section(config, ""),
        # What it refuses to start without stands here although it says nothing: encoder_params, the embedding, the
        # folder of checkpoints.
        "families": {name: {"encoder": "IdentityEncoder", "encoder_params": {}} for name in carried.families},
        "feature_cleaning": {"enabled": False},
        "model": {
            "group_embedding_dim": EMBEDDING,
            **_section(config, "model"),
            "use_ema": True,
            **_sizes(config, carried),
        },
        "training": {
            **_section(config, "training"),
            "optimizer": "adam",
            "category_assignment": "file",
            "category_mapping_file": carried.mapping,
            "checkpoint_dir": carried.checkpoints,
        },
    }
    notes = [*_compression(config, carried), *_data(), *_others(config, tree)]
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
    if key == "early_stopping_patience":
        return value or config.training.epochs  # as many evaluations as it never has: no early stopping
    if key == "device":
        return DEVICE if value == "auto" else value
    if key == "normalization_method":
        return {"standard": "standard", "robust": "mad"}.get(value)
    return value


def module_names(categories: Iterable[str]) -> dict[str, str]:
    """What each category is called there: the names are those of parts of a torch module, which some cannot be."""
    names = list(categories)
    if all(re.fullmatch(r"cluster_\d+", name) for name in names):
        return dict(zip(names, names, strict=True))
    from torch import nn  # costs seconds, which found categories need not

    parts = nn.ModuleDict()
    called: dict[str, str] = {}
    for name in names:
        theirs = name.replace(".", "_") or "_"
        while hasattr(parts, theirs) or theirs in called.values():
            theirs += "_"
        called[name] = theirs
    return called


# ---------------------------------------------------------------- sizes


def _sizes(config: TrialConfig, carried: Carried) -> dict[str, Any]:
    """The sizes of the quantizers: as ratios where those mean the same, else one by one.

    A ratio moves latent dimensions alone there. Where it moves codes, codes have to be given; a category's levels then
    stand under `factors`, which is looked at only where there are no ratios.
    """
    ratios = {name: _rounded(row) for name, row in zip(carried.categories, carried.plan.ratios, strict=True)}
    if _by_ratios(config):
        return {"compression_ratios_per_category": ratios}
    codes, dims = codes_there(config, carried), carried.plan.dims.tolist()
    levels = {
        name: [{"num_tokens": tokens, "latent_dim": dim} for tokens, dim in zip(*row, strict=True)]
        for name, *row in zip(carried.categories, codes, dims, strict=True)
    }
    return {"factors": levels}


def _rounded(row: Sequence[float]) -> list[float]:
    return [round(float(each), 6) for each in row]


def _by_ratios(config: TrialConfig) -> bool:
    return config.compression.capacity == "latent" and config.quantizer.kind != "fsq"


def codes_there(config: TrialConfig, carried: Carried) -> list[list[int]]:
    """Codes of every category at L0, L1 and L2 when Spinlock trains the export."""
    if _by_ratios(config):
        return [list(published_codes(columns)) for columns in carried.categories.values()]
    one = np.minimum(carried.plan.codes.astype(float).prod(axis=2), LARGEST_CODEBOOK).astype(int)
    return np.maximum(one, carried.plan.codes.max(axis=2)).tolist()


def dims_there(config: TrialConfig, carried: Carried) -> list[list[int]]:
    """Latent dimensions of every category at L0, L1 and L2 when Spinlock trains the export."""
    if not _by_ratios(config):
        return carried.plan.dims.tolist()
    sized = zip(carried.categories.values(), carried.plan.ratios, strict=True)
    return [[latent_dim(columns, float(ratio)) for ratio in row] for columns, row in sized]


def size_table(config: TrialConfig, carried: Carried) -> list[str]:
    """Lines with the columns, ratios, codes and latent dimensions of every category, there beside here."""
    head = ("category", "columns", "ratios", "codes there", "here", "by its rule", "dims there", "here")
    codes, dims = codes_there(config, carried), dims_there(config, carried)
    rows = [head]
    for at, (name, columns) in enumerate(carried.categories.items()):
        rows.append(
            (
                name,
                str(columns),
                " ".join(f"{ratio:.3g}" for ratio in carried.plan.ratios[at]),
                _words(codes[at]),
                " ".join(carried.plan.sizes_in_words(at)),
                _words(published_codes(columns)),
                _words(dims[at]),
                _words(carried.plan.dims[at]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _words(sizes: Sequence[int] | np.ndarray) -> str:
    return " ".join(str(int(size)) for size in sizes)


# ---------------------------------------------------------------- what it cannot say


def _compression(config: TrialConfig, carried: Carried) -> Iterator[str]:
    compression = config.compression
    if get_strategy(compression.strategy).measured:
        yield f"compression.strategy {compression.strategy}: no pilots are run there; its sizes are what they came to"
    elif compression.strategy != "uniform":
        yield f"compression.strategy {compression.strategy}: given as its sizes, which other data will not move"
    if _by_ratios(config):
        yield "compression.capacity latent: latent dimensions are not rescaled to the uniform total there"
    else:
        yield (
            f"compression.capacity {compression.capacity}: ratios move latent dimensions alone there, so that the "
            "codes of every level are given in their place"
        )
        here = carried.plan.codes.astype(float).prod(axis=2)
        if (here != codes_there(config, carried)).any():
            yield f"levels of several codebooks: one each there, of {LARGEST_CODEBOOK} codes at most"
    if config.quantizer.kind != "ema":
        yield f"quantizer.kind {config.quantizer.kind}: there are learned codebooks alone"


def _data() -> Iterator[str]:
    yield (
        "prepare: its features are encoded and cleaned here, on the training rows, and its own cleaning is off; there "
        "each is standardized over all rows"
    )
    yield f"group_embedding_dim {EMBEDDING}: Spinlock's own, levels here read a category's features"
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
    if name.startswith(SAID_OTHERWISE) or name == "quantizer.kind":
        return True
    if name == "training.patience":
        return config.training.patience is None
    return name == "model.shared_hidden" and config.model.decoder != "shared"


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{path}{key}"
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _word(value: Any) -> str:
    return "null" if value is None else str(value).replace("'", "")
