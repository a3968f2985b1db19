"""The hierarchical VQ-VAE: every category at three levels, all members and categories in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import LEVELS, ModelConfig, QuantizerConfig
from spinlock_dist.model import beam
from spinlock_dist.model.joint_correction import JointCorrection
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.model.level import Level
from spinlock_dist.model.quantizers import Quantized
from spinlock_dist.model.shared_decoder import SharedDecoder

Tokens = list[list[Tensor]]
"""The tokens `[M, G, B, S]` of each level, bucket by bucket."""


@dataclass(frozen=True)
class Reconstruction:
    """Of the groups of one bucket: `output_MGBF` rebuilds `target_MGBF`; `partial_MGBF[l]` is what the levels up to l
    give. `levels` are empty where tokens were given."""

    target_MGBF: Tensor
    output_MGBF: Tensor
    partial_MGBF: list[Tensor]
    levels: list[Quantized]


class LevelStack(nn.Module):
    """The levels of the groups of one bucket, coarse to fine; see `HierarchicalVQVAE`."""

    def __init__(
        self, features: int, dims_MGL: Tensor, codes_MGLS: Tensor, config: ModelConfig, quantizer: QuantizerConfig
    ):
        super().__init__()
        self.residual = config.levels == "residual"
        widths = dims_MGL.amax(dim=(0, 1)).tolist()
        self.level_modules = nn.ModuleList(
            Level(
                features,
                dims_MGL[..., level],
                codes_MGLS[:, :, level],
                widths[:level],
                config,
                quantizer,
            )
            for level in range(len(LEVELS))
        )

    @property
    def levels(self) -> list[Level]:
        """The levels, coarse to fine."""
        return [cast(Level, module) for module in self.level_modules]

    @property
    def dims_MGL(self) -> Tensor:
        """Latent dimensions in use, on the host; the rest is padding."""
        return torch.stack([level.quantizer.dims_MG for level in self.levels], dim=-1)

    def forward(self, x_MGBF: Tensor) -> Reconstruction:
        """Encode, quantize and reconstruct."""
        levels, partial = self.encode(x_MGBF)
        partial.append(self._rebuild([level.straight_through_MGBZ for level in levels], partial))
        return Reconstruction(x_MGBF, partial[-1], partial, levels)

    def encode(self, x_MGBF: Tensor) -> tuple[list[Quantized], list[Tensor]]:
        """Quantize at every level; also return what each level but the finest rebuilds with those before it.

        With residual levels, level l encodes what the levels before it left unexplained.
        """
        levels: list[Quantized] = []
        partial: list[Tensor] = []
        coarser: list[Tensor] = []
        for level in self.levels:
            if coarser:
                partial.append(self._rebuild(coarser, partial))
            # Detached: straight-through, a finer level would seem to undo any change of a coarser one exactly.
            residual_MGBF = x_MGBF - partial[-1].detach() if self.residual and partial else x_MGBF
            levels.append(level(residual_MGBF, coarser))
            coarser = [*coarser, levels[-1].straight_through_MGBZ]
        return levels, partial

    def decode(self, codes_MGBZ: Sequence[Tensor]) -> list[Tensor]:
        """What the codes of all levels up to each give, `[M, G, B, F]`: the last is the reconstruction."""
        partial: list[Tensor] = []
        for levels in range(1, len(codes_MGBZ) + 1):
            partial.append(self._rebuild(codes_MGBZ[:levels], partial))
        return partial

    def with_tokens(self, result: Reconstruction, tokens_MGBS: Sequence[Tensor]) -> Reconstruction:
        """The same rows with other tokens, `[M, G, B, S]` of each level."""
        levels = []
        for level, quantized, tokens in zip(self.levels, result.levels, tokens_MGBS, strict=True):
            codes = level.quantizer.lookup(tokens)
            levels.append(Quantized(quantized.latent_MGBZ, codes, codes, tokens, []))
        partial = self.decode([level.codes_MGBZ for level in levels])
        return Reconstruction(result.target_MGBF, partial[-1], partial, levels)

    def _rebuild(self, codes_MGBZ: Sequence[Tensor], partial_MGBF: list[Tensor]) -> Tensor:
        *coarser, own_MGBZ = codes_MGBZ
        decoder = self.levels[len(coarser)].decoder
        return cast(Tensor, decoder(own_MGBZ, coarser, partial_MGBF[-1] if coarser else None))


class HierarchicalVQVAE(nn.Module):
    """Tokenizer of grouped features `[M, B, G, F]`, trained for M configurations at once.

    Members share the layout and the switches of `config`; each has its own `plan` (latent dims and codes) and
    weights. Nothing of one member reaches another. Groups are computed bucket by bucket of the layout.
    """

    def __init__(
        self,
        layout: GroupLayout,
        plans: Sequence[CapacityPlan],
        config: ModelConfig,
        quantizer: QuantizerConfig,
    ):
        super().__init__()
        self.layout, self.plans, self.config, self.quantizer_config = layout, list(plans), config, quantizer
        self.dims_MGL = torch.tensor(np.stack([plan.dims for plan in plans]))
        codes_MGLS = torch.tensor(_stack_codes(plans))
        self.stack_modules = nn.ModuleList(
            LevelStack(bucket.width, self.dims_MGL[:, bucket.groups], codes_MGLS[:, bucket.groups], config, quantizer)
            for bucket in layout.buckets
        )
        self.shared = SharedDecoder(layout, self.dims_MGL, config.shared_hidden) if config.decoder == "shared" else None
        self.correction = JointCorrection(len(plans), sum(layout.sizes)) if config.decoder == "joint" else None

    @property
    def stacks(self) -> list[LevelStack]:
        """The levels, bucket by bucket."""
        return [cast(LevelStack, module) for module in self.stack_modules]

    @property
    def members(self) -> int:
        """Number of configurations in the batch."""
        return len(self.plans)

    def level_of(self, group: int, level: int) -> tuple[Level, int]:
        """The level that holds a group, and the group's place in it."""
        bucket, row = self.layout.places[group]
        return self.stacks[bucket].levels[level], row

    def forward(self, x_MBGF: Tensor) -> list[Reconstruction]:
        """Encode, quantize and reconstruct, bucket by bucket."""
        results = [stack(x_MGBF) for stack, x_MGBF in zip(self.stacks, self._split(x_MBGF), strict=True)]
        if self.shared is None:
            return results
        outputs = self.shared([[level.straight_through_MGBZ for level in result.levels] for result in results])
        return [replace(result, output_MGBF=output) for result, output in zip(results, outputs, strict=True)]

    @property
    def searches(self) -> bool:
        """Whether tokens are chosen by beam search: it asks each category's own decoder what codes are worth."""
        return self.quantizer_config.beam > 1 and self.quantizer_config.kind == "ema" and self.shared is None

    @torch.no_grad()
    def tokens(self, x_MBGF: Tensor) -> Tokens:
        """Those of the rows, by beam search, or the encoders' nearest codes."""
        parts = zip(self.stacks, self._split(x_MBGF), strict=True)
        if self.searches:
            return [beam.search(stack.levels, x_MGBF, self.quantizer_config.beam) for stack, x_MGBF in parts]
        return [[level.tokens_MGBS for level in stack.encode(x_MGBF)[0]] for stack, x_MGBF in parts]

    @torch.no_grad()
    def reconstruct(self, x_MBGF: Tensor) -> list[Reconstruction]:
        """As `forward`, with the tokens that encoding chooses, corrected; latents are the encoders', of their own
        choices."""
        results = self(x_MBGF)
        if self.searches:
            chosen = zip(self.stacks, results, self.tokens(x_MBGF), strict=True)
            results = [stack.with_tokens(result, tokens) for stack, result, tokens in chosen]
        outputs = self._corrected([result.output_MGBF for result in results])
        return [replace(result, output_MGBF=output) for result, output in zip(results, outputs, strict=True)]

    def rebuild(self, x_MBGF: Tensor, tokens: Tokens) -> list[Reconstruction]:
        """The rows from tokens, category by category and uncorrected: gradients reach decoders alone."""
        results = []
        for stack, part_MGBF, chosen in zip(self.stacks, self._split(x_MBGF), tokens, strict=True):
            codes = [level.quantizer.lookup(each) for level, each in zip(stack.levels, chosen, strict=True)]
            partial = stack.decode(codes)
            results.append(Reconstruction(part_MGBF, partial[-1], partial, []))
        return results

    def _split(self, x_MBGF: Tensor) -> list[Tensor]:
        return [part_MBGF.transpose(1, 2).contiguous() for part_MBGF in self.layout.split(x_MBGF)]

    def decode(self, tokens_MGBLS: Tensor) -> Tensor:
        """The reconstruction `[M, B, G, F]` of tokens."""
        codes = [
            [level.quantizer.lookup(part_MGBLS[..., at, :]) for at, level in enumerate(stack.levels)]
            for stack, part_MGBLS in zip(self.stacks, self.layout.select(tokens_MGBLS, 1), strict=True)
        ]
        if self.shared:
            return self.join(self.shared(codes))
        outputs = [stack.decode(part)[-1] for stack, part in zip(self.stacks, codes, strict=True)]
        return self.join(self._corrected(outputs))

    def _corrected(self, outputs_MGBF: list[Tensor]) -> list[Tensor]:
        if self.correction is None:
            return outputs_MGBF
        output_MBD = self.correction(self.layout.unpack(self.join(outputs_MGBF)))
        return self._split(self.layout.pack(output_MBD))

    def join(self, parts_MGBF: Sequence[Tensor]) -> Tensor:
        """What every bucket gave, `[M, G, B, F]` each, as features `[M, B, G, F]` of all groups."""
        return self.layout.join(parts_MGBF, dim=1).transpose(1, 2)

    def update_codebooks(self, results: Sequence[Reconstruction], alive_M: Tensor, expire: bool) -> None:
        """Move every codebook towards the latents just seen; see `Quantizer.update`."""
        for stack, result in zip(self.stacks, results, strict=True):
            for level, quantized in zip(stack.levels, result.levels, strict=True):
                level.quantizer.update(quantized, alive_M, expire)


def stack_tokens(layout: GroupLayout, tokens: Sequence[Sequence[Tensor]]) -> np.ndarray:
    """The tokens `[B, G, L, S]` of a model with one member, from what `HierarchicalVQVAE.tokens` gives."""
    parts_GBLS = [torch.stack([level_MGBS[0] for level_MGBS in levels], dim=2) for levels in tokens]
    return layout.join(parts_GBLS, dim=0).transpose(0, 1).cpu().numpy()


def _stack_codes(plans: Sequence[CapacityPlan]) -> np.ndarray:
    """The codes of all members `[M, G, L, S]`; a member with fewer codebooks has further ones of one code."""
    most = max(plan.codes.shape[2] for plan in plans)
    pad = [(0, 0), (0, 0)]
    return np.stack([np.pad(plan.codes, [*pad, (0, most - plan.codes.shape[2])], constant_values=1) for plan in plans])


def select_members(model: HierarchicalVQVAE, members: Sequence[int]) -> HierarchicalVQVAE:
    """Some members as a model of their own, on the same device, without the padding that only others needed."""
    plans = [model.plans[member] for member in members]
    fewer = HierarchicalVQVAE(model.layout, plans, model.config, model.quantizer_config)
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
