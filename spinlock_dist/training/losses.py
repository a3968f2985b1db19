"""The loss terms, one function each; every one is `[M]`, in units of FVU, and independent of the number of groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spinlock_dist.model.hierarchical_vqvae import Reconstruction
from spinlock_dist.model.quantizers import Quantized

WORST_TEMPERATURE = 0.1
"""FVU difference between two categories that makes one weigh e times the other under `worst`."""
TOPOGRAPHIC_ROWS = 64


def category_errors(output_MGBF: Tensor, target_MGBF: Tensor, variance_GF: Tensor) -> Tensor:
    """Return the FVU of every category on this batch `[M, G]`; `variance_GF` is the training variance, 0 in padding.

    A category that does not vary on the rows trained on (a pilot's may miss the few rows where it does) has no error.
    """
    used_GF = (variance_GF > 0).to(target_MGBF)
    squares_MGBF = (output_MGBF - target_MGBF).square() * used_GF[:, None]
    return _share(squares_MGBF.sum(dim=(2, 3)) / target_MGBF.shape[2], variance_GF.sum(dim=1))


def _share(parts_MG: Tensor, total_G: Tensor) -> Tensor:
    """Return parts / total, zero without a gradient where the total is zero."""
    return torch.where(total_G > 0, parts_MG / torch.where(total_G > 0, total_G, 1.0), 0.0)


def balance(errors_MG: Tensor, variance_GF: Tensor, by: str) -> Tensor:
    """Average category errors: by their share of the variance, equally, or by a softmax over them (group DRO,
    Sagawa et al. 2020)."""
    if by == "features":
        return errors_MG @ (variance_GF.sum(dim=1) / variance_GF.sum())
    if by == "categories":
        return errors_MG.mean(dim=1)
    weights_MG = torch.softmax(errors_MG.detach() / WORST_TEMPERATURE, dim=1)
    return (errors_MG * weights_MG).sum(dim=1)


def reconstruction(result: Reconstruction, target_MGBF: Tensor, variance_GF: Tensor, by: str) -> Tensor:
    """FVU of the output. Reaches encoders (straight-through) and decoders."""
    return balance(category_errors(result.output_MGBF, target_MGBF, variance_GF), variance_GF, by)


def informativeness(result: Reconstruction, target_MGBF: Tensor, variance_GF: Tensor) -> Tensor:
    """Mean FVU of each category rebuilt from its coarser levels alone. Reaches what `reconstruction` does."""
    errors = [category_errors(partial, target_MGBF, variance_GF).mean(dim=1) for partial in result.partial_MGBF[:-1]]
    return torch.stack(errors).mean(dim=0)


def commitment(levels: Sequence[Quantized], variance_GF: Tensor, by: str) -> Tensor:
    """Mean over levels of the squared distance of latents from their codes, over the category's variance.

    Reaches encoders alone: codes follow by moving average. A mean, since a sum over quantizers would grow with their
    number until the encoders collapse onto a few codes.
    """
    scale_G = variance_GF.sum(dim=1)
    distances = [(level.latent_MGBZ - level.codes_MGBZ.detach()).square().sum(dim=-1).mean(dim=2) for level in levels]
    return torch.stack([balance(_share(distance_MG, scale_G), variance_GF, by) for distance_MG in distances]).mean(
        dim=0
    )


def orthogonality(levels: Sequence[Quantized]) -> Tensor:
    """Mean squared correlation between latent dimensions of different levels of a category. Reaches encoders."""
    latents = [_standardize(level.latent_MGBZ) for level in levels]
    pairs = [(a, b) for index, a in enumerate(latents) for b in latents[index + 1 :]]
    rows = latents[0].shape[2]
    return torch.stack([(a.mT @ b / rows).square().mean(dim=(1, 2, 3)) for a, b in pairs]).mean(dim=0)


def topographic(levels: Sequence[Quantized], target_MGBF: Tensor) -> Tensor:
    """1 - correlation between pairwise distances of rows in features and in codes. Reaches encoders
    (straight-through)."""
    rows = min(TOPOGRAPHIC_ROWS, target_MGBF.shape[2])
    features = _pairwise_distances(target_MGBF[:, :, :rows])
    latents = _pairwise_distances(torch.cat([level.straight_MGBZ[:, :, :rows] for level in levels], dim=-1))
    return 1 - (_standardize(features[..., None])[..., 0] * _standardize(latents[..., None])[..., 0]).mean(dim=-1)


def _standardize(x: Tensor) -> Tensor:
    """Centre and scale over the last but one axis."""
    centred = x - x.mean(dim=-2, keepdim=True)
    return centred / (centred.square().mean(dim=-2, keepdim=True) + 1e-8).sqrt()


def _pairwise_distances(x_MGBF: Tensor) -> Tensor:
    """Return the distances `[M, pairs]` between rows, all groups together."""
    flat_MBI = x_MGBF.transpose(1, 2).flatten(2)
    upper = torch.triu_indices(flat_MBI.shape[1], flat_MBI.shape[1], offset=1, device=x_MGBF.device)
    difference = flat_MBI[:, upper[0]] - flat_MBI[:, upper[1]]
    return (difference.square().sum(dim=-1) + 1e-12).sqrt()
