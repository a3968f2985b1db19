"""Random networks behind family encoders: how weights are drawn, calibrated and run, and the CNNs.

Spinlock's `resnet1d_3`, and a CNN for fields. All only ever run in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.table import missing_as_nan
from spinlock_dist.errors import ConfigError, DataError
from spinlock_dist.memory import require_memory
from spinlock_dist.seeding import derive_seed

Arrays = dict[str, np.ndarray]


class RandomNetwork(Protocol):
    """What is needed of an encoder's settings."""

    @property
    def seed(self) -> int:
        """Of the weights."""

    @property
    def calibrate(self) -> bool:
        """Whether BatchNorm is fitted on the training rows."""

    def network(self, inputs: int) -> Any:
        """The network for so many input columns or channels, with weights yet to be drawn."""


_BLOCK = 256
_FIELD_CHANNELS = (16, 32, 64)
_CALIBRATION_ROWS = 1024
_CALIBRATION_FIELDS = 512
_WEIGHT = "network."
FLOAT32 = 4


def fit(config: RandomNetwork, family: str, x_train: np.ndarray | Fields) -> Arrays:
    """The state of a network with weights drawn by `config.seed`, calibrated on training rows unless told not.

    Calibration standardizes the inputs and sets every BatchNorm to the statistics of the rows. Without it inputs and
    BatchNorm pass raw scales through, as in Spinlock. Statistics are of at most 1024 evenly spaced training rows, of
    512 fields: the activations of all of them at once would not fit where series are long.
    """
    most = _CALIBRATION_FIELDS if isinstance(x_train, Fields) else _CALIBRATION_ROWS
    sample = missing_as_nan(_channels_last(x_train, slice(None, None, math.ceil(len(x_train) / most))))
    fill, center, scale = _input_statistics(sample, config.calibrate)
    with torch.device("meta"):  # shapes without memory: the settings may ask for any size
        count = sum(each.numel() for each in config.network(sample.shape[-1]).state_dict().values())
    require_memory(
        FLOAT32 * count,
        f"the encoder of family '{family}'",
        ConfigError,
        "lower its sizes (prepare.families)",
    )
    network = _unfilled(config, sample.shape[-1])
    _draw_weights(network, torch.Generator().manual_seed(derive_seed(config.seed, "encoder", family)))
    arrays = {"fill": fill, "center": center, "scale": scale}
    if config.calibrate:
        _calibrate(network, _inputs(arrays, sample))
    weights = {_WEIGHT + name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return arrays | weights


@torch.no_grad()
def encode(config: RandomNetwork, arrays: Arrays, values: np.ndarray | Fields) -> np.ndarray:
    """Map `[N, D]`, `[N, T, D]` or fields to `[N, output]` float64, block by block.

    Raises `DataError` for fields with another number of channels than those it was fitted on.
    """
    network = _build(config, arrays)
    return np.concatenate([network(block).numpy() for block in _input_blocks(arrays, values)])


def _build(config: RandomNetwork, arrays: Arrays) -> nn.Module:
    """The fitted network, float64 and in evaluation mode."""
    network = _unfilled(config, len(arrays["fill"]))
    weights = {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if name.startswith(_WEIGHT)}
    network.load_state_dict({name.removeprefix(_WEIGHT): tensor for name, tensor in weights.items()})
    return network.eval()


def _input_blocks(arrays: Arrays, values: np.ndarray | Fields) -> Iterator[torch.Tensor]:
    channels = len(arrays["fill"])
    if isinstance(values, Fields) and values.shape[1] != channels:
        raise DataError(f"the initial fields have {values.shape[1]} channels, the encoder was fitted on {channels}")
    for start in range(0, max(len(values), 1), _BLOCK):
        yield _inputs(arrays, _channels_last(values, slice(start, start + _BLOCK)))


def _channels_last(values: np.ndarray | Fields, rows: slice) -> np.ndarray:
    """The given rows: `[B, D]`, `[B, T, D]`, or of fields `[B, H, W, C]`."""
    return np.moveaxis(values[rows], 1, -1) if isinstance(values, Fields) else values[rows]


def _input_statistics(x_train: np.ndarray, calibrate: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per input column the training median (for missing values), and mean and std or, uncalibrated, 0 and 1."""
    flat = x_train.reshape(-1, x_train.shape[-1])
    has_value = np.isfinite(flat).any(axis=0)
    fill = np.nanmedian(np.where(has_value, flat, 0.0), axis=0)
    if not calibrate:
        return fill, np.zeros_like(fill), np.ones_like(fill)
    centred = np.where(np.isnan(flat), 0.0, flat - fill)  # about the median: exactly zero for a constant column
    std = centred.std(axis=0)
    return fill, fill + centred.mean(axis=0), np.where(std > 0, std, 1.0)


def _inputs(arrays: Arrays, values: np.ndarray) -> torch.Tensor:
    # A missing value would make the whole embedding of its row missing, so it is filled here rather than in cleaning.
    filled = np.where(np.isfinite(values), values, arrays["fill"])
    return torch.from_numpy((filled - arrays["center"]) / arrays["scale"])


def _unfilled(config: RandomNetwork, inputs: int) -> nn.Module:
    # float64: the embedding of a row must not depend on the rows that share its block.
    # Weights come later, on the meta device nothing draws from the global generator.
    with torch.device("meta"):
        network = cast(nn.Module, config.network(inputs))
    return network.to(torch.float64).to_empty(device="cpu")


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel_size=3, stride=stride, padding=1),
            nn.BatchNorm1d(outputs),
            nn.ReLU(),
            nn.Conv1d(outputs, outputs, kernel_size=3, padding=1),
            nn.BatchNorm1d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, kernel_size=1, stride=stride), nn.BatchNorm1d(outputs))

    def forward(self, x_NDT: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x_NDT) + self.shortcut(x_NDT))


class ResidualCNN(nn.Module):
    """Three residual blocks over time, mean over time, linear head: `[N, T, D]` to `[N, embedding]`."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.blocks = nn.Sequential(
            _ResidualBlock(channels, 64, stride=1),
            _ResidualBlock(64, 128, stride=2),
            _ResidualBlock(128, 128, stride=2),
        )
        self.head = nn.Linear(128, embedding)

    def forward(self, x_NTD: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.head(self.blocks(x_NTD.transpose(1, 2)).mean(dim=2)))


class FieldCNN(nn.Module):
    """Three convolutions over a periodic field, each halving its sides, mean over space, linear head.

    `[N, H, W, C]` to `[N, embedding]`.
    """

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        layers: list[nn.Module] = []
        for width in _FIELD_CHANNELS:
            layers += [
                nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1, padding_mode="circular"),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(channels, embedding)

    def forward(self, x_NHWC: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.head(self.layers(x_NHWC.movedim(-1, 1)).mean(dim=(2, 3))))


@torch.no_grad()
def _draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights and biases from U(-b, b) with b = 1/sqrt(fan in), torch's own default for these layers."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound, generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()  # draws nothing: scale 1, shift 0, statistics 0 and 1


@torch.no_grad()
def _calibrate(network: nn.Module, inputs: torch.Tensor) -> None:
    # In training mode each BatchNorm normalizes with the statistics of this one batch; momentum 1 keeps just these, so
    # a single pass gives every layer the statistics it would find behind the calibrated layers before it.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    network(inputs)
