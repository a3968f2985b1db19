"""Spinlock's `best_model.pt` and `final_model.pt`, read as data: whatever else one holds is refused, never run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.checkpoint_checks import check_finite
from spinlock_dist.config import LEVELS
from spinlock_dist.errors import CheckpointError
from spinlock_dist.inputs import really, require_file

INSIDE = "initial_encoder.cnn_encoder."
"""What the weights of a CNN begin with that trained with the model, in the family encoded by `HYBRID`."""
HYBRID = ("initial_hybrid", "InitialHybridEncoder")


@dataclass(frozen=True, kw_only=True)
class TheirEncoder:
    """What maps a family's raw values to columns: its name and settings there, and its weights; `{}` for identity."""

    name: str
    settings: dict[str, Any]
    weights: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class SpinlockCheckpoint:
    """What a checkpoint of Spinlock holds, as far as it takes to use its model."""

    path: Path
    weights: dict[str, Tensor]
    columns: dict[str, list[int]]
    """Columns of each category, among the `width` that the model takes."""
    encoded: dict[str, list[int]]
    """The same among those that came to the model: of a CNN that trained with it the outputs come later."""
    width: int
    kept: np.ndarray | None
    """Which of the encoded columns cleaning kept, `[D]` bool; None where there was no cleaning."""
    center: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    """By category, one value for each that is `encoded`."""
    robust: bool
    """Whether these are median and MAD, not mean and standard deviation."""
    cleaning: dict[str, Any]
    """Its settings of cleaning."""
    encoders: dict[str, TheirEncoder]
    """By family, in the order of the columns."""
    dataset: str | None
    max_samples: int | None
    seed: int
    epoch: int | None

    @property
    def inside(self) -> int:
        """Columns that a CNN of the initial fields gives, which trained with the model; 0 without one."""
        return len(self.weights.get(f"{INSIDE}fc.bias", ()))

    @property
    def codes(self) -> np.ndarray:
        """Codes `[C, L]`."""
        return self._sizes(0)

    @property
    def dims(self) -> np.ndarray:
        """Latent dimensions `[C, L]`."""
        return self._sizes(1)

    def _sizes(self, axis: int) -> np.ndarray:
        found = [self.weights[codebook(at)].shape[axis] for at in range(len(self.columns) * len(LEVELS))]
        return np.array(found).reshape(len(self.columns), len(LEVELS))


def codebook(quantizer: int) -> str:
    """The name of a quantizer's codes `[K, Z]`; quantizers go category by category, coarse to fine."""
    return f"vq_layers.{quantizer}.embedding.weight"


class _Statistics:
    """Stands for its classes of statistics: takes their attributes, and does nothing."""


class _RobustStatistics(_Statistics):
    """The same for median and MAD."""


def _joined(*parts: str) -> str:
    """Stands for its paths: their text, which nobody opens by itself."""
    return "/".join(str(part) for part in parts).replace("//", "/")


def _harmless() -> list[Any]:
    """What a file may name beside tensors: arrays, and stand-ins for its statistics and paths."""
    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    allowed: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in np.typecodes["All"]}]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(array, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    for module in ("pathlib", "pathlib._local"):
        allowed += [(_joined, f"{module}.{name}") for name in ("PosixPath", "WindowsPath", "PurePosixPath")]
    statistics = "spinlock.encoding.normalization"
    return [
        *allowed,
        (_Statistics, f"{statistics}.NormalizationStats"),
        (_RobustStatistics, f"{statistics}.RobustNormalizationStats"),
    ]


def read_spinlock_checkpoint(path: Path | str) -> SpinlockCheckpoint:
    """Read a checkpoint of Spinlock. Raises `CheckpointError` unless it is one whose model is known here."""
    path = Path(path)
    require_file(path, CheckpointError)
    with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles of another protocol, which then load or do not
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # a damaged or foreign pickle surfaces anywhere, with advice to run it
            raise CheckpointError(f"{path}: {_why_not(path)}") from None
    if not isinstance(content, Mapping) or not isinstance(content.get("model_state_dict"), Mapping):
        raise CheckpointError(f"{path}: not a checkpoint of Spinlock (no model_state_dict)")
    try:
        return _checked(_understood(path, content))
    except CheckpointError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not as Spinlock writes it: {type(error).__name__}: {error}") from None


def _why_not(path: Path) -> str:
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no archive, or a damaged one
        foreign = []
    if not foreign:
        found = really(path)
        return f"is {found}" if "Git LFS" in found else "damaged, or not a file that Spinlock wrote"
    return f"holds {', '.join(sorted(foreign)[:3])}, which would run code where it is read, and is not read"


def _understood(path: Path, content: Mapping[str, Any]) -> SpinlockCheckpoint:
    weights = {
        name.removeprefix("_orig_mod.").removeprefix("vqvae."): each
        for name, each in content["model_state_dict"].items()
    }
    model, config = content.get("model_config") or {}, content.get("config") or {}
    encoded = content.get("pre_model_group_indices") or content.get("group_indices") or model.get("group_indices")
    columns = model.get("group_indices") or encoded
    if not columns or not encoded or not config.get("families"):
        raise CheckpointError(f"{path}: says neither which columns its categories have nor how they come about")
    statistics = content["normalization_stats"]
    robust = any(isinstance(each, _RobustStatistics) for each in statistics.values())
    names = ("median", "mad") if robust else ("mean", "std")
    center, scale = (
        {category: np.asarray(getattr(statistics[category], name), dtype=np.float64) for category in columns}
        for name in names
    )
    kept = content.get("feature_mask")
    return SpinlockCheckpoint(
        path=path,
        weights=weights,
        columns=_numbers(columns),
        encoded=_numbers(encoded),
        width=int(weights["shared_decoder.3.bias"].shape[0]),
        kept=None if kept is None else np.asarray(kept, dtype=bool),
        center=center,
        scale=scale,
        robust=robust,
        cleaning=dict(content.get("feature_cleaning_params") or {}),
        encoders=_encoders(config["families"], content.get("encoder_state_dicts") or {}, weights),
        dataset=str(config["dataset_path"]) if config.get("dataset_path") else None,
        max_samples=config.get("max_samples") or None,
        seed=int(config.get("random_seed", 42)),
        epoch=content.get("epoch"),
    )


def _numbers(columns: Mapping[str, Any]) -> dict[str, list[int]]:
    return {str(category): [int(column) for column in own] for category, own in columns.items()}


def _encoders(
    families: Mapping[str, Any], states: Mapping[str, Any], model: Mapping[str, Tensor]
) -> dict[str, TheirEncoder]:
    inside = {name.removeprefix(INSIDE): each for name, each in model.items() if name.startswith(INSIDE)}
    found = {}
    for family, spec in families.items():
        state = states.get(family) or {}
        name = str(state.get("encoder_name") or spec.get("encoder") or "identity")
        found[str(family)] = TheirEncoder(
            name=name,
            settings=dict(state.get("encoder_params") or spec.get("encoder_params") or {}),
            weights=inside if name in HYBRID else dict(state.get("state_dict") or {}),
        )
    return found


def _checked(found: SpinlockCheckpoint) -> SpinlockCheckpoint:
    """Raise `CheckpointError` if weights are not finite, or sizes contradict each other."""
    check_finite(found.weights, found.path)
    every = sorted(column for own in found.columns.values() for column in own)
    if len(set(every)) < len(every) or not every or every[0] < 0 or every[-1] >= found.width:
        raise CheckpointError(f"{found.path}: damaged: categories have columns twice, or beyond the {found.width}")
    for category, own in found.columns.items():
        taken = int(found.weights[f"feature_extractor.group_mlps.{category}.net.0.weight"].shape[1])
        before, center, scale = (len(each[category]) for each in (found.encoded, found.center, found.scale))
        if len(own) != taken or not before == center == scale or before > taken:
            raise CheckpointError(f"{found.path}: damaged: category '{category}' has columns of several numbers")
    if int(found.dims.sum()) != found.weights["shared_decoder.0.weight"].shape[1]:
        raise CheckpointError(f"{found.path}: damaged: its decoder takes other latents than its codebooks have")
    if found.kept is not None and int(found.kept.sum()) != found.width - found.inside:
        raise CheckpointError(f"{found.path}: damaged: cleaning kept {int(found.kept.sum())} columns of {found.width}")
    return found
