"""The loss terms, one function each; every one is `[M]`, in units of FVU, and independent of the number of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from spinlock_dist.model.hierarchical_vqvae import Reconstruction

Results = Sequence[Reconstruction]
"""What a pass gave, bucket by bucket."""

WORST_TEMPERATURE = 0.1
"""FVU difference between two categories that makes one weigh e times the other under `worst`."""
TOPOGRAPHIC_ROWS = 64


@dataclass(frozen=True)
class Scale:
    """The variance of the training rows, by which errors are measured.

    `total_G` of each group, buckets one after the other, and `inverse_G` 1 over it. A category that does not vary on
    the rows trained on (a pilot's may miss the few rows where it does) has 0 there: its errors count nothing.
    `used_GF`, bucket by bucket, is 0 for features that do not vary.
    """

    total_G: Tensor
    inverse_G: Tensor
    used_GF: list[Tensor]

    @classmethod
    def of(cls, variances_GF: Sequence[Tensor]) -> Scale:
        """From the variances of each bucket's features, 0 in padding."""
        total_G = torch.cat([variance_GF.sum(dim=1) for variance_GF in variances_GF])
        inverse_G = torch.where(total_G > 0, 1 / total_G, 0.0)
        return cls(total_G, inverse_G, [(variance_GF > 0).to(variance_GF) for variance_GF in variances_GF])


class _SumSquares(Function):
    """Two passes over what is as large as the batch, where autograd would take seven."""

    @staticmethod
    def forward(ctx: Any, found_MGBF: Tensor, wanted_MGBF: Tensor, used_GF: Tensor | None) -> Tensor:
        error_MGBF = found_MGBF - wanted_MGBF
        if used_GF is not None:
            error_MGBF *= used_GF[:, None]
        ctx.save_for_backward(error_MGBF)
        return torch.linalg.vector_norm(error_MGBF, dim=(2, 3)).square()

    @staticmethod
    def backward(ctx: Any, gradient_MG: Tensor) -> tuple[Tensor, None, None]:
        (error_MGBF,) = ctx.saved_tensors
        return error_MGBF * gradient_MG.mul(2)[..., None, None], None, None


def category_errors(outputs_MGBF: Sequence[Tensor], targets_MGBF: Sequence[Tensor], scale: Scale) -> Tensor:
    """The FVU of every category on this batch, `[M, G]`, given outputs and targets of each bucket."""
    squares = [_SumSquares.apply(*each) for each in zip(outputs_MGBF, targets_MGBF, scale.used_GF, strict=True)]
    return torch.cat(squares, dim=1) * (scale.inverse_G / targets_MGBF[0].shape[2])


def balance(errors_MG: Tensor, scale: Scale, by: str) -> Tensor:
    """Average category errors: by their share of the variance, equally, or by a softmax over them (group DRO,
    Sagawa et al. 2020)."""
    if by == "features":
        return errors_MG @ (scale.total_G / scale.total_G.sum())
    if by == "categories":
        return errors_MG.mean(dim=1)
    weights_MG = torch.softmax(errors_MG.detach() / WORST_TEMPERATURE, dim=1)
    return (errors_MG * weights_MG).sum(dim=1)


def reconstruction(results: Results, scale: Scale, by: str) -> Tensor:
    """FVU of the output. Reaches encoders (straight-through) and decoders."""
    outputs, targets = [result.output_MGBF for result in results], [result.target_MGBF for result in results]
    return balance(category_errors(outputs, targets, scale), scale, by)


def informativeness(results: Results, scale: Scale) -> Tensor:
    """Mean FVU of each category rebuilt from its coarser levels alone. Reaches what `reconstruction` does."""
    targets = [result.target_MGBF for result in results]
    *coarser, _ = zip(*(result.partial_MGBF for result in results), strict=True)
    errors = [category_errors(partials, targets, scale).mean(dim=1) for partials in coarser]
    return torch.stack(errors).mean(dim=0)


def commitment(results: Results, scale: Scale, by: str) -> Tensor:
    """Mean over levels of the squared distance of latents from their codes, over the category's variance.

    Reaches encoders alone: codes follow by moving average. A mean, since a sum over quantizers would grow with their
    number until the encoders collapse onto a few codes.

    What weight w it needs. Straight-through hands the latent z the gradient of its code c, as if moving one moved
    the other. At the start decoders invert encoders, so the error that is left is z - c of the finest level. It
    would fall if c moved by z - c, so the gradient handed to z is -2 (z - c): away from its code. But c follows no
    single z, the error stays, and the next step pushes z on. Commitment, a mean over three levels, pulls back with
    w * 2 (z - c) / 3: at w = 3, the default, both cancel (tests/contracts/test_reference.py). Coarser levels are
    pushed less, as finer ones make up for most of their error. Far below 3 latents run away from their codes; far
    above, they are tied to them.
    """
    terms = []
    for levels in zip(*(result.levels for result in results), strict=True):
        squares = [_SumSquares.apply(level.latent_MGBZ, level.codes_MGBZ.detach(), None) for level in levels]
        distances_MG = torch.cat(squares, dim=1) * (scale.inverse_G / levels[0].latent_MGBZ.shape[2])
        terms.append(balance(distances_MG, scale, by))
    return torch.stack(terms).mean(dim=0)


def orthogonality(results: Results, dims: Sequence[Tensor]) -> Tensor:
    """Mean squared correlation between latent dimensions of different levels of a category, averaged over categories.
    Reaches encoders.

    `dims` are the latent dimensions in use, `[M, G, L]` bucket by bucket. Padded ones correlate with nothing and must
    not count: how many there are depends on the other members and categories in the batch.
    """
    depth = range(len(results[0].levels))
    pairs = [(coarse, fine) for coarse in depth for fine in depth[coarse + 1 :]]
    rows = results[0].target_MGBF.shape[2]
    terms_MG = []
    for result, dims_MGL in zip(results, dims, strict=True):
        latents = [_standardize(level.latent_MGBZ) for level in result.levels]
        squares = [
            (latents[a].mT @ latents[b] / rows).square().sum(dim=(2, 3)) / (dims_MGL[..., a] * dims_MGL[..., b])
            for a, b in pairs
        ]
        terms_MG.append(torch.stack(squares).mean(dim=0))
    return torch.cat(terms_MG, dim=1).mean(dim=1)


def topographic(results: Results) -> Tensor:
    """1 - correlation between pairwise distances of rows in features and in codes. Reaches encoders
    (straight-through)."""
    rows = min(TOPOGRAPHIC_ROWS, results[0].target_MGBF.shape[2])
    features = _pairwise_distances([result.target_MGBF[:, :, :rows] for result in results])
    latents = _pairwise_distances(
        [level.straight_through_MGBZ[:, :, :rows] for result in results for level in result.levels]
    )
    return 1 - (_standardize(features[..., None])[..., 0] * _standardize(latents[..., None])[..., 0]).mean(dim=-1)


def _standardize(x: Tensor) -> Tensor:
    """Centre and scale over the last but one axis."""
    centred = x - x.mean(dim=-2, keepdim=True)
    return centred / (centred.square().mean(dim=-2, keepdim=True) + 1e-8).sqrt()


def _pairwise_distances(parts_MGBF: Sequence[Tensor]) -> Tensor:
    """The distances `[M, pairs]` between rows, all groups together."""
    flat_MBI = torch.cat([part_MGBF.transpose(1, 2).flatten(2) for part_MGBF in parts_MGBF], dim=2)
    upper = torch.triu_indices(flat_MBI.shape[1], flat_MBI.shape[1], offset=1, device=flat_MBI.device)
    difference = flat_MBI[:, upper[0]] - flat_MBI[:, upper[1]]
    return (difference.square().sum(dim=-1) + 1e-12).sqrt()
