"""Where a model starts: on the data (principal axes, k-means), or from random weights and codebook noise.

Random numbers come from streams of each member, category and level on the host. With data everything else is one batch
of members and categories: operator calls grow with levels, buckets and codes alone, and the device is waited for once a
level, where LAPACK reports whether it converged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from spinlock_dist.config import LEVELS
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.level import GroupMLP, Level
from spinlock_dist.seeding import derive_seed


@torch.no_grad()
def initialize(
    model: HierarchicalVQVAE, train_NGF: Tensor, seeds: Sequence[int], batch_size: int, compiled: bool = False
) -> None:
    """Give every member its starting weights and codebooks, from its own random streams.

    `data`: each level encodes by the principal axes of what it sees, decodes by their transpose, and places its codes
    by k-means, `compiled` or in a batch; hidden layers start without effect. With residual levels this *is* residual
    k-means, so training begins where that network-free codec ends. `random`: drawn weights, codebook noise.
    """
    for index in range(len(LEVELS)):
        _start_hidden(model, index, seeds)
    if model.config.initialization == "data":
        _start_on_data(model, train_NGF, seeds, batch_size, compiled)
    else:
        _start_at_random(model, seeds)
    if model.shared:
        model.shared.start([_generator(seed, "shared decoder") for seed in seeds])


def _generator(seed: int, *names: str | int) -> Generator:
    return Generator().manual_seed(derive_seed(seed, *names))


def _start_hidden(model: HierarchicalVQVAE, index: int, seeds: Sequence[int]) -> None:
    """Draw the hidden layers of one level (He et al. 2015), from a stream for each group, so that padding does not
    change them."""
    dims_MGL = model.dims_MGL.numpy()
    for stack, bucket in zip(model.stacks, model.layout.buckets, strict=True):
        level = stack.levels[index]
        weights = [*level.encoder.hidden_MGIH, *level.decoder.hidden_MGIH]
        found = [np.zeros(each.shape, np.float32) for each in weights]
        for member, seed in enumerate(seeds):
            for row, group in enumerate(bucket.groups):
                *coarser, dims = dims_MGL[member, group, : index + 1].tolist()
                encoder = [model.layout.sizes[group], *(coarser if level.encoder_context else [])]
                drawn = _hidden_layers([encoder, [dims, *coarser]], model, _generator(seed, "hidden", group, index))
                for each, drawn_IH in zip(found, drawn, strict=True):
                    each[member, row, : len(drawn_IH)] = drawn_IH
        for each, drawn_MGIH in zip(weights, found, strict=True):
            each.copy_(torch.from_numpy(drawn_MGIH), non_blocking=True)


def _hidden_layers(inputs: Sequence[list[int]], model: HierarchicalVQVAE, generator: Generator) -> list[np.ndarray]:
    """The weights of every input of networks with these numbers of inputs, from one draw."""
    drawn_IH = torch.randn(sum(map(sum, inputs)), model.config.hidden, generator=generator).numpy()
    sizes = [size for of_network in inputs for size in of_network]
    scales = [(2 / sum(of_network)) ** 0.5 for of_network in inputs for _ in of_network]
    parts = np.split(drawn_IH, np.cumsum(sizes)[:-1])
    return [part_IH * scale for part_IH, scale in zip(parts, scales, strict=True)]


# ---------------------------------------------------------------- at random


def _start_at_random(model: HierarchicalVQVAE, seeds: Sequence[int]) -> None:
    for member, seed in enumerate(seeds):
        for index in range(len(LEVELS)):
            codebook = _generator(seed, "codebook", index)
            for group, features in enumerate(model.layout.sizes):
                level, row = model.level_of(group, index)
                generator = _generator(seed, "output", group, index)
                dims = int(model.dims_MGL[member, group, index])
                _draw_output(level.encoder, (member, row), (features, dims), generator)
                _draw_output(level.decoder, (member, row), (dims, features), generator)
                level.quantizer.start_from_noise(member, row, codebook)


def _draw_output(network: GroupMLP, place: tuple[int, int], sizes: tuple[int, int], generator: Generator) -> None:
    """Draw the linear map and the output layer of one member's group, with `sizes` inputs and outputs in use."""
    inputs, outputs = sizes
    for weights, fan_in in ((network.linear_MGIO, inputs), (network.out_MGHO, network.out_MGHO.shape[2])):
        drawn = torch.randn(fan_in, outputs, generator=generator) * (0.5 / fan_in) ** 0.5
        weights[place][:fan_in, :outputs] = drawn.to(weights)


# ---------------------------------------------------------------- on the data


def _start_on_data(
    model: HierarchicalVQVAE, train_NGF: Tensor, seeds: Sequence[int], batch_size: int, compiled: bool
) -> None:
    seen = [x_NGF.transpose(0, 1)[None].contiguous() for x_NGF in model.layout.split(train_NGF)]
    groups = [bucket.groups for bucket in model.layout.buckets]
    features = [mask_GF[..., None] for mask_GF in model.layout.split(model.layout.mask)]
    for index in range(len(LEVELS)):
        levels = [stack.levels[index] for stack in model.stacks]
        draws = _uniform_draws(model, levels, index, seeds)
        for bucket, axes_MGFA in enumerate(_principal_axes(seen, compiled)):
            level, x_MGNF = levels[bucket], seen[bucket]
            width = level.encoder.linear_MGIO.shape[-1]
            axes_MGFZ = _as_wide(axes_MGFA * features[bucket], level.quantizer.dims_MG, width)
            level.encoder.linear_MGIO.copy_(axes_MGFZ)
            dims_MG = level.quantizer.dims_MG
            sizes_MG = torch.tensor([model.layout.sizes[group] for group in groups[bucket]]).expand_as(dims_MG)
            latent_MGNZ = _products(x_MGNF, axes_MGFZ, sizes_MG, dims_MG, compiled)
            codes_MGNZ = level.quantizer.start_from_data(latent_MGNZ, draws[bucket], batch_size, compiled)
            if model.config.levels == "parallel" and index > 0:
                continue  # the same input again: the finer decoders start silent and learn what the first lacks
            level.decoder.linear_MGIO.copy_(axes_MGFZ.mT)
            if model.config.levels == "residual":
                seen[bucket] = x_MGNF - _products(codes_MGNZ, axes_MGFZ.mT, dims_MG, sizes_MG, compiled)


def _products(left_MGNI: Tensor, right_MGIO: Tensor, inner_MG: Tensor, outer_MG: Tensor, compiled: bool) -> Tensor:
    """`left @ right`. For `compiled` starts each member's group by itself, of the cells in use: no work on padding, and
    to the last bit what the member would get alone."""
    if not compiled:
        return left_MGNI @ right_MGIO
    left_MGNI = left_MGNI.expand(len(right_MGIO), -1, -1, -1)
    found_MGNO = left_MGNI.new_zeros(*left_MGNI.shape[:3], right_MGIO.shape[-1])
    for member, sizes_G in enumerate(zip(inner_MG.tolist(), outer_MG.tolist(), strict=True)):
        for group, (inner, outer) in enumerate(zip(*sizes_G, strict=True)):
            product_NO = left_MGNI[member, group, :, :inner] @ right_MGIO[member, group, :inner, :outer]
            found_MGNO[member, group, :, :outer] = product_NO
    return found_MGNO


def _uniform_draws(
    model: HierarchicalVQVAE, levels: Sequence[Level], index: int, seeds: Sequence[int]
) -> list[list[list[np.ndarray]]]:
    """The random numbers of a level's quantizers, by bucket, member and group: of each member one stream."""
    found = [[[np.zeros(0)] * len(bucket.groups) for _ in seeds] for bucket in model.layout.buckets]
    for member, seed in enumerate(seeds):
        sizes = [levels[bucket].quantizer.draws(member, row) for bucket, row in model.layout.places]
        drawn = torch.rand(sum(sizes), generator=_generator(seed, "codebook", index), dtype=torch.float64).numpy()
        for (bucket, row), part in zip(model.layout.places, np.split(drawn, np.cumsum(sizes)[:-1]), strict=True):
            found[bucket][member][row] = part
    return found


def _principal_axes(parts_MGNF: Sequence[Tensor], compiled: bool) -> list[Tensor]:
    """The principal axes of each bucket's groups `[M, G, F, A]`, those of the largest variance first.

    All are found in one call; for `compiled` starts from products of each member by itself, as in `_products`. With
    fewer rows than features there are as many axes as rows.
    """
    rows, width = parts_MGNF[0].shape[2], max(part.shape[3] for part in parts_MGNF)
    if rows < width:
        # The same axes at the cost of rows ** 3 instead of features ** 3.
        joined_MGNF = torch.cat([pad(part, (0, width - part.shape[3])) for part in parts_MGNF], dim=1)
        axes_MGFA = torch.linalg.svd(joined_MGNF.double(), full_matrices=False).Vh.mT
    else:
        together = 1 if compiled else len(parts_MGNF[0])
        moments = [torch.cat([x.mT @ x for x in part.split(together)]).double() / rows for part in parts_MGNF]
        joined_MGFF = torch.cat([pad(x, (0, width - x.shape[3]) * 2) for x in moments], dim=1)
        axes_MGFA = torch.linalg.eigh(joined_MGFF).eigenvectors.flip(-1)
    by_bucket = axes_MGFA.to(parts_MGNF[0]).split([part.shape[1] for part in parts_MGNF], dim=1)
    return [axes[:, :, : part.shape[3]] for axes, part in zip(by_bucket, parts_MGNF, strict=True)]


def _as_wide(axes_MGFA: Tensor, dims_MG: Tensor, width: int) -> Tensor:
    """The leading `dims_MG` axes of each member's group, `[M, G, F, Z]`: zero beyond, and where there are no more."""
    axes_MGFZ = pad(axes_MGFA[..., :width], (0, max(0, width - axes_MGFA.shape[-1])))
    used_MGZ = (torch.arange(width) < dims_MG[..., None]).to(axes_MGFA.device, axes_MGFA.dtype, non_blocking=True)
    # LAPACK stores vectors one after another: left so, products would add up in another order for one member.
    return (axes_MGFZ * used_MGZ[:, :, None]).contiguous()
