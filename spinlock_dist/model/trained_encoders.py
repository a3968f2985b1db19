"""Family encoders that train with the tokenizer: a copy of each for every member, started at the frozen weights."""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from spinlock_dist.features.pipeline import FeaturePipeline, TrainableEncoder
from spinlock_dist.model.layout import GroupLayout

BLOCK = 256
"""Rows in a network at a time where there is no batch to bound them."""
Inputs = dict[str, Tensor]
"""What the trainable networks see of each row, by family: `[N, ...]`, or `[M, B, ...]` where members have batches."""


class TrainedEncoders(nn.Module):
    """Moves what the model sees of the trainable families: `x + (trained(inputs) - frozen(inputs)) / unit`.

    `unit` is what one normalized unit of a column is in the units of the network. At the start trained and frozen
    weights are equal and nothing is moved. Targets are columns of the frozen network and do not pass through here.
    """

    def __init__(self, pipeline: FeaturePipeline, layout: GroupLayout, members: int):
        super().__init__()
        self._made_of = pipeline, layout
        encoders = pipeline.trainable_encoders()
        self.families = list(encoders)
        self.networks = nn.ModuleList(_TrainedNetwork(encoder, layout, members) for encoder in encoders.values())

    def for_members(self, members: int) -> TrainedEncoders:
        """Return the same encoders at their start, for another number of members."""
        return TrainedEncoders(*self._made_of, members)

    def forward(self, x_MBGF: Tensor, inputs: Inputs) -> Tensor:
        """Return `[M, B, G, F]`: `x_MBGF` with what training has moved; `inputs` are the same rows, `[M, B, ...]`."""
        seen_MBI = x_MBGF.flatten(2)
        for family, network in zip(self.families, self.networks, strict=True):
            seen_MBI = seen_MBI.index_add(2, cast(Tensor, network.cells), network(inputs[family]))
        return seen_MBI.view_as(x_MBGF)


def trained_encoders(pipeline: FeaturePipeline, layout: GroupLayout, members: int) -> TrainedEncoders | None:
    """Return the encoders that train with the model, None if all of them are frozen."""
    return TrainedEncoders(pipeline, layout, members) if pipeline.trainable_encoders() else None


class _TrainedNetwork(nn.Module):
    """One network for every member. Weights are parameters `[M, ...]`; the statistics of BatchNorm are not trained."""

    def __init__(self, encoder: TrainableEncoder, layout: GroupLayout, members: int):
        super().__init__()
        network = encoder.network().float()
        self._network = (network,)  # in a tuple, lest its own weights count as parameters of this module
        self.weights = nn.ParameterDict()
        for name, weight in network.named_parameters():
            start_M = weight.detach().expand(members, *weight.shape)
            self.weights[_key(name)] = nn.Parameter(start_M.clone())
            self.register_buffer(f"start {_key(name)}", start_M, persistent=False)
        for name, statistic in network.named_buffers():
            self.register_buffer(f"statistic {_key(name)}", statistic, persistent=False)
        device = layout.mask.device
        self.register_buffer("cells", layout.cells(encoder.columns), persistent=False)
        self.register_buffer("outputs", torch.as_tensor(encoder.outputs, device=device), persistent=False)
        self.register_buffer("unit", torch.as_tensor(encoder.unit.astype(np.float32), device=device), persistent=False)

    def forward(self, inputs_MB: Tensor) -> Tensor:
        """Return by how much training has moved the columns, in normalized units: `[M, B, K]`."""
        names = [name for name, _ in self._network[0].named_parameters()]
        trained_MBO = self._run({name: self.weights[_key(name)] for name in names}, inputs_MB)
        with torch.no_grad():
            frozen_MBO = self._run({name: self.get_buffer(f"start {_key(name)}") for name in names}, inputs_MB)
        moved_MBO = trained_MBO - frozen_MBO
        return moved_MBO[..., cast(Tensor, self.outputs)] / cast(Tensor, self.unit)

    def _run(self, weights_M: dict[str, Tensor], inputs_MB: Tensor) -> Tensor:
        """Return the outputs `[M, B, O]`; without gradients block by block, since activations take memory."""
        network = self._network[0]
        statistics = {name: self.get_buffer(f"statistic {_key(name)}") for name, _ in network.named_buffers()}

        def run(weights: dict[str, Tensor], inputs_B: Tensor) -> Tensor:
            return cast(Tensor, functional_call(network, {**weights, **statistics}, (inputs_B,)))

        blocks = [inputs_MB] if torch.is_grad_enabled() else inputs_MB.split(BLOCK, dim=1)
        return torch.cat([vmap(run)(weights_M, block_MB) for block_MB in blocks], dim=1)


def to_device(inputs: dict[str, np.ndarray], layout: GroupLayout) -> Inputs:
    """Return what trained encoders see as tensors beside the model; on the CPU without a copy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # Ray's arrays; nothing writes to them here
        tensors = {family: torch.from_numpy(array) for family, array in inputs.items()}
    return {family: tensor.to(layout.mask.device) for family, tensor in tensors.items()}


def _key(name: str) -> str:
    return name.replace(".", "/")  # a dot would be read as a path through modules
