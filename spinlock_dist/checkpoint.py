"""Checkpoints: `model.safetensors` and `meta.json`. Nothing in them is code, nothing else is needed to use them."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from spinlock_dist.atomic_files import replacing_folder
from spinlock_dist.categories.category import Category
from spinlock_dist.checkpoint_checks import check_finite, check_pipeline, check_runs, check_sizes
from spinlock_dist.checkpoint_metadata import FORMAT_VERSION, META, STATE, WEIGHTS, read_meta
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.device import resolve_device
from spinlock_dist.errors import CheckpointError, DataError, SpinlockError
from spinlock_dist.features.pipeline import FeaturePipeline
from spinlock_dist.inputs import really, require_file
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.tokenizer import Tokenizer
from spinlock_dist.training.snapshot import State, packed, unpacked


def save_checkpoint(
    folder: Path, tokenizer: Tokenizer, validation: Metrics, epochs: int, engine: str, state: State | None = None
) -> None:
    """Write `folder`, replacing an earlier one only when the new one is complete on disk.

    With the `state` that its training ended with, the training can be resumed.
    """
    arrays, pipeline_meta = tokenizer.pipeline.to_state()
    tensors = _tensors("pipeline/", arrays)
    for name, tensor in tokenizer.model.state_dict().items():
        tensors[f"model/{name}"] = tensor.detach().cpu().clone().contiguous()
    meta = {
        "config": tokenizer.config.model_dump(mode="json"),
        "seed": tokenizer.config.seed,
        "fingerprint": tokenizer.fingerprint,
        "feature_names": list(tokenizer.pipeline.feature_names),
        "families": list(tokenizer.pipeline.families),
        "categories": {category.name: list(category.columns) for category in tokenizer.categories},
        "characteristics": [asdict(each) for each in tokenizer.characteristics],
        "plan": {name: getattr(tokenizer.plan, name).tolist() for name in ("ratios", "dims", "codes")},
        "pipeline": pipeline_meta,
        "metrics": asdict(validation),
        "epochs": epochs,
        "engine": engine,
    }
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    meta = {"format_version": FORMAT_VERSION, **meta, "versions": versions}
    with replacing_folder(Path(folder)) as draft:
        (draft / WEIGHTS).write_bytes(save(tensors))  # save_file would leave it readable by its owner alone
        if state is not None:
            (draft / STATE).write_bytes(packed(state))
        (draft / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _tensors(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {prefix + name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _arrays(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): t.numpy() for name, t in tensors.items() if name.startswith(prefix)}


def load_checkpoint(folder: Path | str, device: str = "auto") -> Tokenizer:
    """Rebuild a tokenizer from a checkpoint alone. Raises `CheckpointError` if it is incomplete or damaged."""
    folder = Path(folder)
    meta = read_meta(folder)
    require_file(folder / WEIGHTS, CheckpointError, f"not there: {folder} is not a checkpoint (no {WEIGHTS})")
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        found = f"it is {really(folder / WEIGHTS)}" if really(folder / WEIGHTS) else error
        raise CheckpointError(f"{folder / WEIGHTS}: damaged: {found}") from None
    check_finite(tensors, folder / WEIGHTS)
    try:
        config = parse_config(TrialConfig, meta["config"], str(folder / META))
        tokenizer = _rebuild(config, meta, tensors, device)
        check_runs(tokenizer)
    except (CheckpointError, DataError) as error:
        raise CheckpointError(f"{folder}: damaged: {error}") from None
    except SpinlockError:
        raise
    except Exception as error:  # what does not fit surfaces in any layer
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: damaged: {type(error).__name__}: {said}") from None
    return tokenizer


def load_state(folder: Path) -> State:
    """Where the training of a checkpoint ended. Raises `CheckpointError` if it was not kept, or is damaged."""
    path = Path(folder) / STATE
    kept = "only spinlock_dist.train --out keeps it, not a study; train its config.yaml again with more epochs"
    require_file(path, CheckpointError, f"not there: this checkpoint cannot be resumed; {kept}")
    state = unpacked(path)
    if state is None or len(state.metadata.get("members", ())) != 1:
        raise CheckpointError(f"{path}: damaged; train its config again with more epochs")
    check_finite(state.tensors, path)
    return state


def _rebuild(config: TrialConfig, meta: dict[str, Any], tensors: dict[str, torch.Tensor], device: str) -> Tokenizer:
    categories = tuple(Category(name, tuple(columns)) for name, columns in meta["categories"].items())
    plan = CapacityPlan(**{name: np.array(values) for name, values in meta["plan"].items()})
    check_sizes(plan, categories, config.model, sum(tensor.nbytes for tensor in tensors.values()))
    layout = GroupLayout(categories, resolve_device(device))
    pipeline = FeaturePipeline.from_state(_arrays("pipeline/", tensors), meta["pipeline"])
    check_pipeline(pipeline)
    model = HierarchicalVQVAE(layout, [plan], config.model, config.quantizer)
    model.load_state_dict({n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")})
    characteristics = tuple(
        Characteristics(**{**each, "spectrum": tuple(each["spectrum"])}) for each in meta["characteristics"]
    )
    if len(characteristics) != len(categories) or not isinstance(meta["fingerprint"], str):
        raise CheckpointError(f"{META}: characteristics or fingerprint are not those of {len(categories)} categories")
    return Tokenizer(
        config=config,
        model=model.to(layout.mask.device).eval(),
        pipeline=pipeline,
        categories=categories,
        characteristics=characteristics,
        fingerprint=meta["fingerprint"],
    )
