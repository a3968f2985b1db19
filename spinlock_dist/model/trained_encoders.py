"""Family encoders that train with the tokenizer: a copy of each for every member, started at the frozen weights."""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from spinlock_dist.features.pipeline import FeaturePipeline, TrainableEncoder
from spinlock_dist.model.layout import GroupLayout

BLOCK = 256
"""Rows in a network at a time where there is no batch to bound them."""
Inputs = dict[str, Tensor]
"""What the trainable networks see of each row, by family: `[N, ...]`, or `[M, B, ...]` where members have batches."""


class TrainedEncoders(nn.Module):
    """Moves what the model sees of the trainable families: `x + (clip(trained(inputs)) - clip(frozen(inputs))) / unit`.

    `clip` cuts off where cleaning does, lest a few outliers be moved by thousands; `unit` is what one normalized unit
    of a column is in units of the network's output. At the start trained and frozen weights are equal and nothing is
    moved. Targets are columns of the frozen network and do not pass through here.
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
    """One network for every member. Weights are parameters `[M, ...]`; the statistics of BatchNorm are not trained.

    Members run one after the other: a convolution in groups, one a member, is slower, and rounds otherwise than a
    member alone, which Adam makes much of where a gradient is next to nothing.
    """

    def __init__(self, encoder: TrainableEncoder, layout: GroupLayout, members: int):
        super().__init__()
        network = encoder.network().float()
        self._network = (network,)  # in a tuple, lest its own weights count as parameters of this module
        self.weights = nn.ParameterDict()
        for name, weight in network.named_parameters():
            self.weights[_key(name)] = nn.Parameter(weight.detach().expand(members, *weight.shape).clone())
        for name, frozen in network.state_dict().items():
            self.register_buffer(_key(name), frozen, persistent=False)
        self.register_buffer("cells", layout.cells(encoder.columns), persistent=False)
        for name in ("outputs", "low", "high", "unit"):
            array = getattr(encoder, name)
            dtype = np.int64 if name == "outputs" else np.float32
            self.register_buffer(f"kept_{name}", torch.from_numpy(array.astype(dtype)), persistent=False)

    def forward(self, inputs_MB: Tensor) -> Tensor:
        """Return by how much training has moved the columns, in normalized units: `[M, B, K]`."""
        frozen = {name: self.get_buffer(_key(name)) for name in self._network[0].state_dict()}
        moved = []
        for member, inputs_B in enumerate(inputs_MB):
            own = {name: self.weights[_key(name)][member] for name, _ in self._network[0].named_parameters()}
            trained_BK = self._run({**frozen, **own}, inputs_B)
            with torch.no_grad():
                frozen_BK = self._run(frozen, inputs_B)
            moved.append(trained_BK - frozen_BK)
        return torch.stack(moved) / self.get_buffer("kept_unit")

    def _run(self, state: dict[str, Tensor], inputs_B: Tensor) -> Tensor:
        """Return the outputs that cleaning kept, cut off where it does: `[B, K]`.

        Without gradients block by block, since activations take memory.
        """
        blocks = [inputs_B] if torch.is_grad_enabled() else inputs_B.split(BLOCK)
        outputs_BO = torch.cat([functional_call(self._network[0], state, (block,)) for block in blocks])
        kept_BK = outputs_BO[:, self.get_buffer("kept_outputs")]
        return kept_BK.clamp(self.get_buffer("kept_low"), self.get_buffer("kept_high"))


def to_device(inputs: dict[str, np.ndarray], layout: GroupLayout) -> Inputs:
    """Return what trained encoders see as tensors beside the model; on the CPU without a copy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # Ray's arrays; nothing writes to them here
        tensors = {family: torch.from_numpy(array) for family, array in inputs.items()}
    return {family: tensor.to(layout.mask.device) for family, tensor in tensors.items()}


def _key(name: str) -> str:
    return name.replace(".", "/")  # a dot would be read as a path through modules
