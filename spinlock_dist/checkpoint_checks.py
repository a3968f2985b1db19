"""What a checkpoint must be before it is used: finite, of the sizes that its weights have, and able to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import ModelConfig, PrepareConfig
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import CheckpointError
from spinlock_dist.features.encoders.base import NetworkEncoder
from spinlock_dist.features.encoders.fitted import FittedEncoder
from spinlock_dist.features.pipeline import FeaturePipeline
from spinlock_dist.memory import require_memory
from spinlock_dist.tokenizer import Tokenizer

FLOAT32 = 4
STEPS, SIDE = 8, 8
"""Of the series and fields that a checkpoint is tried on."""


def check_finite(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Raise `CheckpointError`, naming the first, if a weight or statistic is not finite."""
    for name, tensor in tensors.items():
        broken = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if broken:
            raise CheckpointError(
                f"{where}: damaged: {broken} of the {tensor.numel()} values of {name} are not finite; train it again"
            )


def check_sizes(plan: CapacityPlan, categories: tuple[Category, ...], model: ModelConfig, held: int) -> None:
    """Raise `CheckpointError` if a plan is none, or declares sizes that `held` bytes of weights cannot hold."""
    count = len(categories)
    if plan.dims.shape != plan.ratios.shape or plan.codes.shape[:2] != plan.dims.shape or len(plan.dims) != count:
        raise CheckpointError(f"plan: its parts are not of one shape for {count} categories")
    for name, sizes in (("dims", plan.dims), ("codes", plan.codes)):
        if sizes.dtype.kind != "i" or sizes.size == 0 or sizes.min() < 1:
            raise CheckpointError(f"plan: {name} must be whole numbers from 1 on")
    columns = [column for category in categories for column in category.columns]
    if any(type(column) is not int for column in columns) or sorted(columns) != list(range(len(columns))):
        raise CheckpointError("categories: every column must be in one of them")
    widths = {"latent dimensions": int(plan.dims.max()), "hidden units": model.hidden}
    widths |= {"shared hidden units": model.shared_hidden} if model.decoder == "shared" else {}
    widths |= {"weights of the joint decoder": len(columns) ** 2} if model.decoder == "joint" else {}
    for what, width in widths.items():
        if width * FLOAT32 > held:
            raise CheckpointError(f"declares {width} {what}, more than its weights can have in {held} bytes")
    widest = int(plan.dims.max()) * int(plan.codes.max())
    require_memory(
        widest * plan.codes.size * FLOAT32, f"its plan of up to {widest} values a codebook", CheckpointError, "damaged?"
    )


def check_pipeline(pipeline: FeaturePipeline) -> None:
    """Raise `CheckpointError` unless the arrays of every encoder have the shapes that its settings ask for."""
    if pipeline.normalization.kind not in get_args(PrepareConfig.model_fields["normalization"].annotation):
        raise CheckpointError(f"normalization '{pipeline.normalization.kind}': there is none of that name")
    arrays = pipeline.normalization.arrays
    if (arrays.get("scale", np.ones(1)) <= 0).any() or (np.diff(arrays.get("knots", np.zeros(2)), axis=0) < 0).any():
        raise CheckpointError("normalization: a scale is not above 0, or knots do not ascend")
    if (pipeline.cleaning.low > pipeline.cleaning.high).any():
        raise CheckpointError("cleaning: a lower bound lies above its upper one")
    for family, encoder in pipeline.encoders.items():
        if not isinstance(encoder.config, NetworkEncoder):
            continue
        if not encoder.config.needs_fields and len(encoder.columns) != len(encoder.arrays["fill"]):
            raise CheckpointError(f"encoder of family '{family}': {len(encoder.columns)} names for other columns")
        with torch.device("meta"):  # shapes without memory: the settings may ask for any size
            wanted = encoder.config.network(len(encoder.arrays["fill"])).state_dict()
        for name, tensor in wanted.items():
            found = encoder.arrays.get(f"network.{name}")
            if found is None or found.shape != tuple(tensor.shape):
                shape = None if found is None else list(found.shape)
                raise CheckpointError(
                    f"encoder of family '{family}': {name} must be {list(tensor.shape)}, is {shape or 'not there'}"
                )


def check_runs(tokenizer: Tokenizer) -> None:
    """Pass one row through, from raw features to tokens and back. Raises whatever a part that does not fit raises."""
    encoders = tokenizer.pipeline.encoders
    hybrid = next((each for each in encoders.values() if each.config.needs_fields), None)
    table = FeatureTable(
        columns={family: _zeros(encoder) for family, encoder in encoders.items()},
        names={family: encoder.columns for family, encoder in encoders.items()},
        source="checkpoint",
        fields=Fields(np.zeros((1, len(hybrid.arrays["fill"]), SIDE, SIDE), np.float32)) if hybrid else None,
    )
    if not np.isfinite(tokenizer.decode(tokenizer.encode(table))).all():
        raise CheckpointError("a row of zeros is rebuilt as values that are not finite; train it again")


def _zeros(encoder: FittedEncoder) -> np.ndarray:
    shape: Any = (1, STEPS, len(encoder.columns)) if encoder.config.axes == 3 else (1, len(encoder.columns))
    return np.zeros(shape, np.float32)
