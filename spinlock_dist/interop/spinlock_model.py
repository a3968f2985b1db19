"""Spinlock's model as its checkpoints hold it, for use and not for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, pad

from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import LEVELS, ModelConfig, QuantizerConfig
from spinlock_dist.interop.spinlock_checkpoint import codebook
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, Reconstruction
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.model.quantizers import Quantized

CONFIG = ModelConfig(levels="parallel", decoder="shared")
NOT_CONVERTED = (
    "not converted to a checkpoint: its levels are read from an embedding of the category, and both embedding and "
    "latents pass a LayerNorm; levels here read the features, so that no checkpoint can hold its encoder"
)


class SpinlockVQVAE(HierarchicalVQVAE):
    """Every category embedded by an MLP with a LayerNorm, a linear head with a LayerNorm for every level, the nearest
    code of each, and one decoder that rebuilds all features from all codes. `weights` are named as it names them."""

    def __init__(self, layout: GroupLayout, plan: CapacityPlan, weights: dict[str, Tensor], names: Sequence[str]):
        nn.Module.__init__(self)  # none of the parts of ours
        self.layout, self.plans, self.names = layout, [plan], list(names)
        self.config, self.quantizer_config = CONFIG, QuantizerConfig(beam=1)
        self.shared = None
        device = layout.mask.device
        self.weights = {name: tensor.float().to(device) for name, tensor in weights.items()}

    @torch.no_grad()
    def reconstruct(self, x_MBGF: Tensor) -> list[Reconstruction]:
        """Encode to the nearest codes and decode, bucket by bucket; of `partial` there is only the whole."""
        [x_BGF] = x_MBGF
        latents, tokens = self._encode(x_BGF)
        codes = self._lookup(tokens)
        outputs = self._by_bucket(self.layout.pack(self._decode(codes)))
        targets = self._by_bucket(x_BGF)
        levels = [self._quantized(level, latents, codes, tokens) for level in range(len(LEVELS))]
        return [
            Reconstruction(target, output, [output], [level[bucket] for level in levels])
            for bucket, (target, output) in enumerate(zip(targets, outputs, strict=True))
        ]

    @torch.no_grad()
    def tokens(self, x_MBGF: Tensor) -> list[list[Tensor]]:
        """The nearest codes `[M, G, B, 1]` of each level, bucket by bucket."""
        return [[level.tokens_MGBS for level in result.levels] for result in self.reconstruct(x_MBGF)]

    @torch.no_grad()
    def decode(self, tokens_MGBLS: Tensor) -> Tensor:
        """The reconstruction `[M, B, G, F]` of tokens."""
        [tokens_GBL] = tokens_MGBLS[..., 0]
        tokens = [tokens_BL[:, level] for tokens_BL in tokens_GBL for level in range(len(LEVELS))]
        return self.layout.pack(self._decode(self._lookup(tokens)))[None]

    def _encode(self, x_BGF: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Latents `[B, Z]` and tokens `[B]` of every quantizer."""
        latents: list[Tensor] = []
        tokens: list[Tensor] = []
        for group, name in enumerate(self.names):
            mlp = f"feature_extractor.group_mlps.{name}.net"
            hidden = torch.relu(self._linear(f"{mlp}.0", x_BGF[:, group, : self.layout.sizes[group]]))
            embedding = self._norm(f"{mlp}.4", self._linear(f"{mlp}.3", hidden))
            for level in range(len(LEVELS)):
                head = f"projector.projection_heads.{name}.{level}"
                latents.append(self._norm(f"{head}.2", self._linear(f"{head}.0", embedding)))
                codes = self.weights[codebook(len(tokens))]
                tokens.append(torch.cdist(latents[-1], codes).argmin(dim=1))
        return latents, tokens

    def _lookup(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        return [self.weights[codebook(at)][each] for at, each in enumerate(tokens)]

    def _decode(self, codes: Sequence[Tensor]) -> Tensor:
        """The features `[B, D]` of all categories, in the order of the layout's columns."""
        hidden = torch.relu(self._linear("shared_decoder.0", torch.cat(list(codes), dim=1)))
        return self._linear("shared_decoder.3", hidden)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _by_bucket(self, x_BGF: Tensor) -> list[Tensor]:
        return [part_BGF.transpose(0, 1)[None] for part_BGF in self.layout.split(x_BGF)]

    def _quantized(
        self, level: int, latents: Sequence[Tensor], codes: Sequence[Tensor], tokens: Sequence[Tensor]
    ) -> list[Quantized]:
        """What a level of all categories became, bucket by bucket, latents padded to the widest."""

        def stacked(found: Sequence[Tensor]) -> list[Tensor]:
            own = found[level :: len(LEVELS)]
            width = max(each.shape[-1] for each in own)
            return self.layout.select(torch.stack([pad(each, (0, width - each.shape[-1])) for each in own])[None], 1)

        parts = zip(stacked(latents), stacked(codes), stacked([each[:, None] for each in tokens]), strict=True)
        return [Quantized(latent, code, code, token, []) for latent, code, token in parts]
