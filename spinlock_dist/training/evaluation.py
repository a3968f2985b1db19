"""One evaluation pass that yields every metric, for all members at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.features.pipeline import FeaturePipeline
from spinlock_dist.metrics.codebook_usage import CodebookUsage, codebook_usage
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.metrics.score import score
from spinlock_dist.metrics.scored import Codebook, Scored
from spinlock_dist.metrics.topology import MAX_ROWS, row_distances
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, Reconstruction
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.split import Split

CHUNK, CHUNK_ON_GPU = 1 << 12, 1 << 18
"""Rows per forward pass, of all members together; bounds memory, and on a processor keeps within caches what one
operation hands to the next."""
Usage = dict[tuple[int, int, int], CodebookUsage]
"""Of every codebook that is switched on, by category, level and number within the level."""


class _Usages(NamedTuple):
    """Of one member, on the training rows and on those of the split."""

    train: Usage
    split: Usage


@dataclass(frozen=True)
class EvaluationData:
    """What an evaluation compares with: normalized `values_ND` on the host, and the same grouped on the device."""

    values_ND: np.ndarray
    grouped_NGF: Tensor
    split: Split
    categories: tuple[Category, ...]
    characteristics: tuple[Characteristics, ...]
    pipeline: FeaturePipeline

    @cached_property
    def layout(self) -> GroupLayout:
        """How groups lie in `grouped_NGF`."""
        return GroupLayout(self.categories, self.grouped_NGF.device)

    @cached_property
    def train_mean_D(self) -> np.ndarray:
        """Mean of the normalized training rows."""
        return self.values_ND[self.split.train].mean(axis=0, dtype=np.float64)


def evaluate(model: HierarchicalVQVAE, data: EvaluationData, split: str, on_the_way: bool = False) -> list[Metrics]:
    """The metrics of every member on `train`, `validation` or `test`; for `on_the_way` see `reconstructed`."""
    return [score(each) for each in reconstructed(model, data, split, on_the_way)]


@torch.no_grad()
def reconstructed(model: HierarchicalVQVAE, data: EvaluationData, split: str, on_the_way: bool = False) -> list[Scored]:
    """The rows of a split as every member reconstructs them: what metrics are computed from.

    `on_the_way`, of a training that goes on, usage is counted on these rows alone: the training rows are the most, and
    to encode them takes as long as an epoch of training.
    """
    was_training = model.training
    model.eval()
    passed = _Pass(model, data, data.split.part(split))
    usage = _usage(model, passed.counts)
    alone = on_the_way or split == "train"
    train_usage = usage if alone else _usage(model, _count_codes(model, data, data.split.train))
    model.train(was_training)
    usages = [_Usages(train, there) for train, there in zip(train_usage, usage, strict=True)]
    return [_scored(data, split, passed, plan, m, usages[m]) for m, plan in enumerate(model.plans)]


class _Pass:
    """Outputs of all members on some rows: `output_MND`, code counts per level, and of the first rows the distances
    between their targets, `[pairs]`, and between their `latents` before and after quantization, `[M, pairs]`."""

    def __init__(self, model: HierarchicalVQVAE, data: EvaluationData, rows: np.ndarray):
        self.rows = rows
        self.distances = row_distances(data.values_ND[rows])
        self.counts = _no_counts(model)
        outputs: list[Tensor] = []
        self.latents: tuple[np.ndarray, np.ndarray] | None = None
        for results in passes(model, data.grouped_NGF, rows):
            outputs.append(model.layout.unpack(model.join([result.output_MGBF for result in results])).cpu())
            _add_counts(self.counts, [[level.tokens_MGBS for level in result.levels] for result in results])
            if self.latents is None:
                levels = [level for result in results for level in result.levels]
                before, after = ([getattr(level, of) for level in levels] for of in ("latent_MGBZ", "codes_MGBZ"))
                self.latents = _row_distances(before), _row_distances(after)
        self.output_MND = torch.cat(outputs, dim=1).numpy()


def _row_distances(parts_MGBZ: Sequence[Tensor]) -> np.ndarray:
    """What `row_distances` gives, of the latents of all levels and members at once, on their device."""
    x_MBI = torch.cat([part[:, :, :MAX_ROWS].transpose(1, 2).flatten(2) for part in parts_MGBZ], dim=2).double()
    rows = torch.triu_indices(x_MBI.shape[1], x_MBI.shape[1], offset=1, device=x_MBI.device)
    distances_MP = torch.cdist(x_MBI, x_MBI)[:, rows[0], rows[1]]
    # As a difference of squares the distance of equal rows is a rounding error: where all are equal, it would be a
    # pattern.
    differ_M = (x_MBI != x_MBI[:, :1]).flatten(1).any(dim=1)
    return (distances_MP * differ_M[:, None]).cpu().numpy()


def passes(model: HierarchicalVQVAE, grouped_NGF: Tensor, rows: np.ndarray) -> Iterator[list[Reconstruction]]:
    """Pass the given rows through every member, a chunk at a time."""
    yield from (model.reconstruct(x_MBGF) for x_MBGF in chunks(model, grouped_NGF, rows))


def chunks(model: HierarchicalVQVAE, grouped_NGF: Tensor, rows: np.ndarray) -> Iterator[Tensor]:
    """Yield the given rows as every member gets them, `[M, B, G, F]`."""
    chunk = CHUNK if grouped_NGF.device.type == "cpu" else CHUNK_ON_GPU
    size = max(MAX_ROWS, chunk // model.members)
    for start in range(0, max(len(rows), 1), size):
        index = torch.as_tensor(rows[start : start + size], device=grouped_NGF.device)
        yield grouped_NGF[index].expand(model.members, -1, -1, -1)


Counts = list[list[Tensor]]
"""How often each code was chosen, by bucket and level: `[M, G, S, K]`."""


def _no_counts(model: HierarchicalVQVAE) -> Counts:
    device = model.layout.mask.device
    sizes = [[level.quantizer.codes_MGS for level in stack.levels] for stack in model.stacks]
    return [[torch.zeros(*codes.shape, int(codes.max()), device=device) for codes in levels] for levels in sizes]


def _add_counts(counts: Counts, found: Sequence[Sequence[Tensor]]) -> None:
    for counted, levels in zip(counts, found, strict=True):
        for count_MGSK, tokens_MGBS in zip(counted, levels, strict=True):
            tokens_MGSB = tokens_MGBS.movedim(-1, 2)
            count_MGSK.scatter_add_(3, tokens_MGSB, torch.ones_like(tokens_MGSB, dtype=count_MGSK.dtype))


def _count_codes(model: HierarchicalVQVAE, data: EvaluationData, rows: np.ndarray) -> Counts:
    counts = _no_counts(model)
    for x_MBGF in chunks(model, data.grouped_NGF, rows):
        _add_counts(counts, model.tokens(x_MBGF))
    return counts


def _usage(model: HierarchicalVQVAE, counts: Counts) -> list[Usage]:
    """Per member, the usage of every codebook that is switched on."""
    host = [[count_MGSK.cpu().numpy() for count_MGSK in levels] for levels in counts]

    def of_codebook(member: int, group: int, level: int, book: int, codes: int) -> CodebookUsage:
        bucket, row = model.layout.places[group]
        return codebook_usage(host[bucket][level][member, row, book, :codes])

    return [
        {place: of_codebook(member, *place, codes) for place, _, codes in plan.codebooks()}
        for member, plan in enumerate(model.plans)
    ]


def _scored(data: EvaluationData, split: str, passed: _Pass, plan: CapacityPlan, member: int, usage: _Usages) -> Scored:
    target_ND, output_ND = data.values_ND[passed.rows], passed.output_MND[member]
    return Scored(
        split=split,
        target_ND=target_ND,
        output_ND=output_ND,
        train_mean_D=data.train_mean_D,
        raw_target_ND=data.pipeline.invert(target_ND),
        raw_output_ND=data.pipeline.invert(output_ND),
        categories=data.categories,
        spectra=[each.spectrum for each in data.characteristics],
        bits_C=plan.bits.sum(axis=1),
        codebooks=[
            Codebook(
                category=data.categories[place[0]].name,
                level=name,
                dim=int(plan.dims[place[:2]]),
                train=usage.train[place],
                split=usage.split[place],
            )
            for place, name, _ in plan.codebooks()
        ],
        distances=passed.distances,
        latents=None if passed.latents is None else (passed.latents[0][member], passed.latents[1][member]),
    )
