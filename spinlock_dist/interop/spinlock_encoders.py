"""Spinlock's family encoders with the weights that its checkpoints hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv1d, conv2d, gelu, linear, max_pool1d, max_pool2d

from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import missing_as_nan
from spinlock_dist.errors import CheckpointError
from spinlock_dist.features.encoders.base import Arrays, Encoder, numbered
from spinlock_dist.features.encoders.fitted import FittedEncoder
from spinlock_dist.features.encoders.identity import IdentityEncoder
from spinlock_dist.interop.spinlock_checkpoint import HYBRID, TheirEncoder

_BLOCK = 1024
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "gelu": gelu, "tanh": torch.tanh}
Weights = dict[str, Tensor]


class _Network(Encoder):
    """A frozen network; what is missing in its inputs is 0."""

    output: int

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """`feature_0`, ..."""
        return numbered("feature", self.output)

    @torch.no_grad()
    def encode(self, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
        """Map `[N, D]` or `[N, T, D]` to `[N, output]` float64, block by block, in the float32 that it used."""
        weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        blocks = [
            self.run(weights, torch.from_numpy(np.where(np.isfinite(block), block, 0).astype(np.float32))).numpy()
            for block in (values[start : start + _BLOCK] for start in range(0, max(len(values), 1), _BLOCK))
        ]
        return np.concatenate(blocks).astype(np.float64)

    def run(self, weights: Weights, x: Tensor) -> Tensor:
        """Pass a block through."""
        raise NotImplementedError


class _MLP(_Network):
    """Linear, BatchNorm where there is one, activation; behind the last linear layer no activation."""

    encoder: Literal["spinlock_mlp"] = "spinlock_mlp"
    activation: Literal["relu", "gelu", "tanh"] = "relu"

    def run(self, weights: Weights, x: Tensor) -> Tensor:
        """Layer by layer, in the order of their numbers."""
        layers = sorted({int(name.split(".")[1]) for name in weights})
        linears = [at for at in layers if weights[f"encoder.{at}.weight"].ndim == 2]
        for at in linears:
            x = linear(x, weights[f"encoder.{at}.weight"], weights[f"encoder.{at}.bias"])
            if f"encoder.{at + 1}.running_mean" in weights:
                x = _normed(weights, f"encoder.{at + 1}", x)
            if at != linears[-1]:
                x = _ACTIVATIONS[self.activation](x)
        return x


class _TemporalCNN(_Network):
    """A residual network over time."""

    encoder: Literal["spinlock_temporal_cnn"] = "spinlock_temporal_cnn"
    axes: ClassVar[int] = 3

    def run(self, weights: Weights, x: Tensor) -> Tensor:
        """`[B, T, D]` to `[B, output]`."""
        return _residual(weights, x.transpose(1, 2), conv1d, max_pool1d)


class _InitialHybrid(_Network):
    """A family as it is, and behind it a residual network over the mean of the initial fields' channels."""

    encoder: Literal["spinlock_initial_hybrid"] = "spinlock_initial_hybrid"
    needs_fields: ClassVar[bool] = True

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """The family's own, then `cnn_0`, ..."""
        return (*columns, *numbered("cnn", self.output))

    def encode(self, arrays: Arrays, values: np.ndarray, fields: Fields | None) -> np.ndarray:
        """The values beside the outputs of the network, `[N, D + output]`."""
        assert fields is not None, "a pipeline refuses a table without"
        blocks = [super(_InitialHybrid, self).encode(arrays, block, None) for block in fields.blocks()]
        return np.concatenate([missing_as_nan(values), np.concatenate(blocks)], axis=1)

    def run(self, weights: Weights, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, output]`. What it takes for realizations of one channel are channels here."""
        return _residual(weights, x.mean(dim=1, keepdim=True), conv2d, max_pool2d)


def _residual(weights: Weights, x: Tensor, conv: Any, pool: Any) -> Tensor:
    """A convolution, three residual blocks that each halve the sides, the mean over them, linear head, BatchNorm."""
    x = conv(x, weights["stage1.0.weight"], stride=2, padding=3)
    x = pool(torch.relu(_normed(weights, "stage1.1", x)), kernel_size=3, stride=2, padding=1)
    for stage in ("stage2", "stage3", "stage4"):
        inner = torch.relu(
            _normed(weights, f"{stage}.bn1", conv(x, weights[f"{stage}.conv1.weight"], stride=2, padding=1))
        )
        inner = _normed(weights, f"{stage}.bn2", conv(inner, weights[f"{stage}.conv2.weight"], padding=1))
        shortcut = conv(x, weights[f"{stage}.skip.0.weight"], stride=2)
        x = torch.relu(inner + _normed(weights, f"{stage}.skip.1", shortcut))
    return _normed(weights, "bn_final", linear(x.flatten(2).mean(dim=2), weights["fc.weight"], weights["fc.bias"]))


def _normed(weights: Weights, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return batch_norm(x, mean, var, weight, bias)


def fitted(family: str, theirs: TheirEncoder, columns: tuple[str, ...], axes: int) -> FittedEncoder:
    """Its encoder of a family with raw `columns`. Raises `CheckpointError` for one that is not known here, or that the
    family's values, with so many `axes`, do not fit."""
    arrays = {name: tensor.numpy() for name, tensor in theirs.weights.items() if tensor.is_floating_point()}
    encoder: Encoder
    try:
        if theirs.name in ("identity", "IdentityEncoder"):
            encoder = IdentityEncoder()
        elif theirs.name in ("mlp", "MLPEncoder"):
            widths = [array.shape[0] for _, array in sorted(arrays.items(), key=_layer) if array.ndim == 2]
            encoder = _MLP(output=widths[-1], activation=theirs.settings.get("activation", "relu"))
        elif theirs.name in ("td_cnn", "TemporalCNNEncoder"):
            encoder = _TemporalCNN(output=len(arrays["fc.bias"]))
        elif theirs.name in HYBRID:
            encoder = _InitialHybrid(output=len(arrays["fc.bias"]))
        else:
            raise CheckpointError(f"families.{family}: the encoder {theirs.name} is not known here")
    except (IndexError, KeyError, ValueError) as error:
        raise CheckpointError(f"families.{family}: damaged weights of {theirs.name}: {error}") from None
    if axes != encoder.axes:
        raise CheckpointError(f"families.{family}: {theirs.name} takes {encoder.axes} axes, the dataset has {axes}")
    return FittedEncoder(encoder, columns, arrays)


def _layer(item: tuple[str, np.ndarray]) -> int:
    return int(item[0].split(".")[1])
