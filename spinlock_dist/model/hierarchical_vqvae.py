"""The hierarchical VQ-VAE: every category at three levels, all members and categories in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from spinlock_dist.compression.sizing import CapacityPlan
from spinlock_dist.config import LEVELS, ModelConfig, QuantizerConfig
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.model.level import Level
from spinlock_dist.model.quantizers import Quantized
from spinlock_dist.model.shared_decoder import SharedDecoder
from spinlock_dist.model.trained_encoders import Inputs, TrainedEncoders


@dataclass(frozen=True)
class Reconstruction:
    """`output_MGBF` rebuilds the input; `partial_MGBF[l]` is what the levels up to l give of each category."""

    output_MGBF: Tensor
    partial_MGBF: list[Tensor]
    levels: list[Quantized]


class HierarchicalVQVAE(nn.Module):
    """Tokenizer of grouped features `[M, B, G, F]`, trained for M configurations at once.

    Members share the layout and the switches of `config`; each has its own `plan` (latent dims and codes) and
    weights. Nothing of one member reaches another.
    """

    def __init__(
        self,
        layout: GroupLayout,
        plans: Sequence[CapacityPlan],
        config: ModelConfig,
        quantizer: QuantizerConfig,
        encoders: TrainedEncoders | None = None,
    ):
        super().__init__()
        self.layout, self.plans, self.config, self.quantizer_config = layout, list(plans), config, quantizer
        self.dims_MGL = torch.tensor(np.stack([plan.dims for plan in plans]))
        codes_MGLS = torch.tensor(_stack_codes(plans))
        features = layout.mask.shape[1]
        residual = config.levels == "residual"
        widths = [int(self.dims_MGL[..., level].max()) for level in range(len(LEVELS))]
        self.level_modules = nn.ModuleList(
            Level(
                features,
                self.dims_MGL[..., level],
                codes_MGLS[:, :, level],
                coarser=widths[:level],
                encoder_context=residual,
                hidden=config.hidden,
                quantizer=quantizer,
            )
            for level in range(len(LEVELS))
        )
        self.shared = SharedDecoder(layout, self.dims_MGL, config.shared_hidden) if config.decoder == "shared" else None
        self.encoders = encoders

    @property
    def levels(self) -> list[Level]:
        """The levels, coarse to fine."""
        return [cast(Level, module) for module in self.level_modules]

    @property
    def members(self) -> int:
        """Number of configurations in the batch."""
        return len(self.plans)

    def forward(self, x_MBGF: Tensor, inputs: Inputs | None = None) -> Reconstruction:
        """Encode, quantize and rebuild. With residual levels, level l sees what the levels before it left.

        Where family encoders train with the model, `inputs` are what they see of these rows, `[M, B, ...]` each.
        """
        if self.encoders is not None:
            assert inputs is not None
            x_MBGF = self.encoders(x_MBGF, inputs)
        x_MGBF = x_MBGF.transpose(1, 2).contiguous()
        levels: list[Quantized] = []
        partial: list[Tensor] = []
        coarser: list[Tensor] = []
        rebuilt_MGBF = torch.zeros_like(x_MGBF)
        for level in self.levels:
            # Detached: straight-through, a finer level would seem to undo any change of a coarser one exactly.
            left_MGBF = x_MGBF - rebuilt_MGBF.detach() if self.config.levels == "residual" else x_MGBF
            quantized, contribution_MGBF = level(left_MGBF, coarser)
            rebuilt_MGBF = rebuilt_MGBF + contribution_MGBF
            levels.append(quantized)
            partial.append(rebuilt_MGBF)
            coarser = [*coarser, quantized.straight_MGBZ]
        output_MGBF = self.shared(coarser) if self.shared else rebuilt_MGBF
        return Reconstruction(output_MGBF, partial, levels)

    def decode(self, tokens_MGBLS: Tensor) -> Tensor:
        """Return the reconstruction `[M, G, B, F]` of tokens."""
        coarser: list[Tensor] = []
        rebuilt_MGBF: Tensor | None = None
        for index, level in enumerate(self.levels):
            codes_MGBZ = level.quantizer.lookup(tokens_MGBLS[..., index, :])
            contribution_MGBF = level.decoder(codes_MGBZ, coarser)
            rebuilt_MGBF = contribution_MGBF if rebuilt_MGBF is None else rebuilt_MGBF + contribution_MGBF
            coarser.append(codes_MGBZ)
        assert rebuilt_MGBF is not None
        return self.shared(coarser) if self.shared else rebuilt_MGBF

    def update_codebooks(self, levels: Sequence[Quantized], alive_M: Tensor, expire: bool) -> None:
        """Move every codebook towards the latents just seen; see `Quantizer.update`."""
        for level, quantized in zip(self.levels, levels, strict=True):
            level.quantizer.update(quantized, alive_M, expire)


def stack_tokens(levels: Sequence[Quantized]) -> np.ndarray:
    """Return the tokens `[B, G, L, S]` of a model with one member."""
    tokens_GBLS = torch.stack([level.tokens_MGBS[0] for level in levels], dim=2)
    return tokens_GBLS.transpose(0, 1).cpu().numpy()


def _stack_codes(plans: Sequence[CapacityPlan]) -> np.ndarray:
    """Return the codes of all members `[M, G, L, S]`; a member with fewer codebooks has further ones of one code."""
    most = max(plan.codes.shape[2] for plan in plans)
    pad = [(0, 0), (0, 0)]
    return np.stack([np.pad(plan.codes, [*pad, (0, most - plan.codes.shape[2])], constant_values=1) for plan in plans])


def select_members(model: HierarchicalVQVAE, members: Sequence[int]) -> HierarchicalVQVAE:
    """Return some members as a model of their own, on the same device, without the padding that only others needed."""
    encoders = model.encoders.for_members(len(members)) if model.encoders else None
    plans = [model.plans[member] for member in members]
    fewer = HierarchicalVQVAE(model.layout, plans, model.config, model.quantizer_config, encoders)
    fewer.to(model.layout.mask.device)
    take_members(fewer.state_dict(), model.state_dict(), members)
    return fewer


@torch.no_grad()
def take_members(target: Mapping[str, Tensor], source: Mapping[str, Tensor], members: Sequence[int]) -> None:
    """Fill every tensor with the same one's slices for `members`; the source may be padded to more."""
    for name, tensor in target.items():
        cells = tuple(slice(0, size) for size in tensor.shape[1:])
        for place, member in enumerate(members):
            tensor[place] = source[name][member][cells]
