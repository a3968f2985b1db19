"""Where a model starts: on the data (principal axes, k-means), or from random weights and codebook noise."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from spinlock_dist.config import LEVELS
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.seeding import derive_seed


@torch.no_grad()
def initialize(model: HierarchicalVQVAE, train_NGF: Tensor, seeds: list[int], batch_size: int) -> None:
    """Give every member its starting weights and codebooks, from its own random streams.

    `data`: each level encodes by the principal axes of what it sees, decodes by their transpose, and places its codes
    by k-means; hidden layers start without effect. With residual levels this *is* residual k-means, so training
    begins where that network-free codec ends. `random`: drawn weights, codebook noise.
    """
    for member, seed in enumerate(seeds):
        if model.config.initialization == "data":
            _start_member_on_data(model, member, train_NGF, seed, batch_size)
        else:
            _start_member_at_random(model, member, seed)
        if model.shared:
            model.shared.start(member, _generator(seed, "shared decoder"))


def _generator(seed: int, *names: str | int) -> Generator:
    return Generator().manual_seed(derive_seed(seed, *names))


def _start_hidden(model: HierarchicalVQVAE, index: int, member: int, seed: int) -> None:
    """Draw the hidden layers of one level from a stream per group, so that padding does not change them."""
    for group, features in enumerate(model.layout.sizes):
        level, row = model.level_of(group, index)
        generator = _generator(seed, "hidden", group, index)
        *coarser, dims = model.dims_MGL[member, group, : index + 1].tolist()
        level.encoder.start_hidden(member, row, [features, *(coarser if level.encoder_context else [])], generator)
        level.decoder.start_hidden(member, row, [dims, *coarser], generator)


def _start_member_at_random(model: HierarchicalVQVAE, member: int, seed: int) -> None:
    for index in range(len(LEVELS)):
        _start_hidden(model, index, member, seed)
        codebook = _generator(seed, "codebook", index)
        for group, features in enumerate(model.layout.sizes):
            level, row = model.level_of(group, index)
            generator = _generator(seed, "output", group, index)
            dims = int(model.dims_MGL[member, group, index])
            level.encoder.start_output(member, row, features, dims, generator)
            level.decoder.start_output(member, row, dims, features, generator)
            level.quantizer.start_from_noise(member, row, codebook)


def _start_member_on_data(model: HierarchicalVQVAE, member: int, train_NGF: Tensor, seed: int, batch_size: int) -> None:
    residual_GNF = train_NGF.transpose(0, 1).contiguous()
    for index in range(len(LEVELS)):
        _start_hidden(model, index, member, seed)
        dims_G = model.dims_MGL[member, :, index]
        axes_GFZ = _principal_axes(residual_GNF, dims_G, int(dims_G.max())) * model.layout.mask[..., None]
        generator = _generator(seed, "codebook", index)
        for group, (features, dims) in enumerate(zip(model.layout.sizes, dims_G.tolist(), strict=True)):
            level, row = model.level_of(group, index)
            axes_FZ = axes_GFZ[group, :features, :dims]
            level.encoder.linear_MGIO[member, row, :features, :dims] = axes_FZ
            latent_NZ = residual_GNF[group, :, :features] @ axes_FZ
            codes_NZ = level.quantizer.start_from_data(member, row, latent_NZ, generator, batch_size)
            if model.config.levels == "parallel" and index > 0:
                continue  # the same input again: the finer decoders start silent and learn what the first lacks
            level.decoder.linear_MGIO[member, row, :dims, :features] = axes_FZ.mT
            if model.config.levels == "residual":
                residual_GNF[group, :, :features] -= codes_NZ @ axes_FZ.mT


def _principal_axes(x_GNF: Tensor, dims_G: Tensor, width: int) -> Tensor:
    """The leading principal axes of each group `[G, F, Z]`, zero beyond its `dims_G` and, with fewer rows than
    features, beyond the rows' number."""
    groups, rows, features = x_GNF.shape
    if rows < features:
        # The same axes at the cost of rows ** 3 instead of features ** 3.
        axes_GFA = torch.linalg.svd(x_GNF.double(), full_matrices=False).Vh.mT.to(x_GNF)
    else:
        moments_GFF = (x_GNF.mT @ x_GNF).double() / rows
        axes_GFA = torch.linalg.eigh(moments_GFF).eigenvectors.flip(-1).to(x_GNF)
    axes_GFZ = torch.zeros(groups, features, width, dtype=x_GNF.dtype, device=x_GNF.device)
    found = min(axes_GFA.shape[-1], width)
    axes_GFZ[..., :found] = axes_GFA[..., :found]
    used_GZ = torch.arange(width) < dims_G[:, None]
    return axes_GFZ * used_GZ.to(x_GNF)[:, None]
