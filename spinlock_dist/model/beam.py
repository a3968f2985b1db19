"""Beam search at encoding: the tokens of all levels and codebooks of a category chosen together.

Encoders name a code at each level before it is known what finer levels can make of it. Here the decoder is asked: from
coarse to fine, and within a level from one codebook to the next, the `width` best partial choices are kept, by the
squared error of what the decoder makes of them. Candidates are those codes whose linear part alone brings the output
nearest; of them the error with the hidden layer is computed. Everything a code does to a decoder is a table, since
decoders are linear before and after their hidden layers. (Beam search in residual quantization: Babenko & Lempitsky
2014; with decoders that are networks: Huijben et al. 2024.)

Letters are those of `layout.py`; besides, S are codebooks of a level, W beams, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from spinlock_dist import compiled
from spinlock_dist.device import on_threads
from spinlock_dist.model.level import Level
from spinlock_dist.model.quantizers.ema import EMAQuantizer

CANDIDATES = 6
"""Codes that every beam is continued by. With all codes instead the error falls by another 0.1 %."""
CELLS, CELLS_ON_GPU = 1 << 22, 1 << 28
"""Numbers in the largest tensor of a search; more rows are searched in parts. On a processor they should fit caches."""


@torch.no_grad()
def search(levels: Sequence[Level], target_MGBF: Tensor, width: int) -> list[Tensor]:
    """Tokens `[M, G, B, S]` of each level. Levels have vector quantizers and decoders that add up."""
    by_rows = target_MGBF.device.type == "cpu" and compiled.missing() is None
    found = (search_by_rows if by_rows else search_batched)(levels, target_MGBF, width)
    # A level has a place for each codebook that any level may have.
    places = [_quantizer(level).codes_MGS.shape[-1] for level in levels]
    return [pad(tokens, (0, most - tokens.shape[-1])) for tokens, most in zip(found, places, strict=True)]


def _to_hidden(levels: Sequence[Level], index: int, finer: int) -> Tensor:
    """What codes of level `index` are multiplied by before the hidden layer of a `finer` decoder, or of their own."""
    weights = levels[finer].decoder.hidden_MGIH[0 if finer == index else index + 1]
    return cast(Tensor, weights)


def _quantizer(level: Level) -> EMAQuantizer:
    return cast(EMAQuantizer, level.quantizer)


# ---------------------------------------------------------------- batched, on any device


def search_batched(levels: Sequence[Level], target_MGBF: Tensor, width: int) -> list[Tensor]:
    """All members, categories and rows at once, in parts that fit the memory."""
    members, groups, rows, features = target_MGBF.shape
    cells = CELLS if target_MGBF.device.type == "cpu" else CELLS_ON_GPU
    size = max(1, cells // (members * groups * width * CANDIDATES * features))
    parts = [_search(levels, target_MGBF[:, :, at : at + size], width) for at in range(0, max(rows, 1), size)]
    return [torch.cat(tokens, dim=2) for tokens in zip(*parts, strict=True)]


def _search(levels: Sequence[Level], x_MGBF: Tensor, width: int) -> list[Tensor]:
    *batch, features = x_MGBF.shape
    base_MGBWF = x_MGBF.new_zeros(*batch, 1, features)
    hidden = [level.decoder.hidden_bias_MGH[:, :, None, None].expand(*batch, 1, -1) for level in levels]
    lost_MGBW = x_MGBF.new_zeros(*batch, 1)  # minus infinite where a category has fewer choices than there are beams
    tokens_MGBWS = torch.zeros(*batch, 1, 0, dtype=torch.long, device=x_MGBF.device)
    for index, level in enumerate(levels):
        quantizer, decoder = _quantizer(level), level.decoder
        output_MGBWF = base_MGBWF
        for book in range(quantizer.books):
            codes_MGKZ = quantizer.codebook_MGSKZ[:, :, book]
            linear_MGKF = codes_MGKZ @ decoder.linear_MGIO
            if book == 0:
                linear_MGKF = linear_MGKF + decoder.bias_MGO[:, :, None]
            usable_MGK = ~quantizer.unused_MGSK[:, :, book]
            usable_MGK[..., 0] |= ~usable_MGK.any(dim=-1)  # where there is no such codebook: its zero code
            left_MGBWF = x_MGBF[:, :, :, None] - output_MGBWF
            bias_MGK = torch.where(usable_MGK, -0.5 * linear_MGKF.square().sum(dim=-1), -torch.inf)
            score_MGBWK = left_MGBWF @ linear_MGKF.mT[:, :, None] + (bias_MGK[:, :, None, None] + lost_MGBW[..., None])
            score_MGBWC, code_MGBWC = score_MGBWK.topk(min(CANDIDATES, score_MGBWK.shape[-1]), dim=-1)

            def add(table_MGKO: Tensor, code_MGBWC: Tensor = code_MGBWC) -> Tensor:
                flat = code_MGBWC.flatten(2)[..., None].expand(-1, -1, -1, table_MGKO.shape[-1])
                return table_MGKO.gather(2, flat).unflatten(2, code_MGBWC.shape[2:])

            linear_MGBWCF = base_MGBWF[..., None, :] + add(linear_MGKF)
            sums = [
                hidden[finer][..., None, :] + add(codes_MGKZ @ _to_hidden(levels, index, finer))
                for finer in range(index, len(levels))
            ]
            output_MGBWCF = linear_MGBWCF + sums[0].relu() @ decoder.out_MGHO[:, :, None, None]
            error_MGBWC = (x_MGBF[:, :, :, None, None] - output_MGBWCF).square().sum(dim=-1)
            error_MGBWC = error_MGBWC.masked_fill(score_MGBWC == -torch.inf, torch.inf)
            flat_MGBI = error_MGBWC.flatten(3)
            least_MGBW, best_MGBW = flat_MGBI.topk(min(width, flat_MGBI.shape[-1]), dim=-1, largest=False)
            lost_MGBW = torch.where(least_MGBW == torch.inf, -torch.inf, 0.0)

            def keep(each_MGBWCX: Tensor, best_MGBW: Tensor = best_MGBW) -> Tensor:
                place = best_MGBW[..., None].expand(*best_MGBW.shape, each_MGBWCX.shape[-1])
                return each_MGBWCX.flatten(3, 4).gather(3, place)

            before = tokens_MGBWS[..., None, :].expand(*code_MGBWC.shape, -1)
            tokens_MGBWS = keep(torch.cat([before, code_MGBWC[..., None]], dim=-1))
            base_MGBWF, output_MGBWF = keep(linear_MGBWCF), keep(output_MGBWCF)
            hidden[index:] = [keep(each) for each in sums]
        base_MGBWF = output_MGBWF
    books = [_quantizer(level).books for level in levels]
    return list(tokens_MGBWS[..., 0, :].split(books, dim=-1))


# ---------------------------------------------------------------- compiled, category by category


def search_by_rows(levels: Sequence[Level], target_MGBF: Tensor, width: int) -> list[Tensor]:
    """Row by row, each category of each member by itself."""
    from spinlock_dist.compiled.beam import PAD
    from spinlock_dist.compiled.beam import search as kernel

    members, groups, rows, features = target_MGBF.shape
    padded = np.zeros((members, groups, rows, features + -features % PAD), np.float32)
    padded[..., :features] = target_MGBF.numpy()
    found = [torch.zeros(members, groups, rows, _quantizer(level).books, dtype=torch.long) for level in levels]

    def one(place: tuple[int, int]) -> None:
        tables, stages = _tables(levels, *place, padded.shape[-1])
        tokens_NS = kernel(tables, padded[place], width, CANDIDATES)
        for stage, (level, book) in enumerate(stages):
            found[level][place][:, book] = torch.from_numpy(tokens_NS[:, stage])

    on_threads(one, [(member, group) for member in range(members) for group in range(groups)])
    return found


def _tables(levels: Sequence[Level], member: int, group: int, features: int) -> tuple[Any, list[tuple[int, int]]]:
    """Tables of one category, and the level and codebook of each stage."""
    from spinlock_dist.compiled.beam import PAD, Tables

    def of(tensor: Tensor) -> np.ndarray:
        return tensor[member, group].detach().numpy()

    learned = [_quantizer(level).learned(member, group) for level in levels]
    stages = [(level, book) for level, books in enumerate(learned) for book in range(len(books))]
    codes_S = np.array([learned[level][book] for level, book in stages])
    hidden = levels[0].decoder.out_MGHO.shape[2]
    units, most = hidden + -hidden % PAD, codes_S.max() + -codes_S.max() % PAD
    linear_SKF = np.zeros((len(stages), most, features), np.float32)
    half_SK = np.full((len(stages), most), np.inf, np.float32)
    hidden_SLKH = np.zeros((len(stages), len(levels), most, units), np.float32)
    bias_LH, out_LHF = np.zeros((len(levels), units), np.float32), np.zeros((len(levels), units, features), np.float32)
    for index, level in enumerate(levels):
        weights = of(level.decoder.out_MGHO)
        out_LHF[index, :hidden, : weights.shape[1]] = weights
        bias_LH[index, :hidden] = of(level.decoder.hidden_bias_MGH)
    for stage, (index, book) in enumerate(stages):
        codes_KZ, decoder = of(_quantizer(levels[index]).codebook_MGSKZ)[book, : codes_S[stage]], levels[index].decoder
        linear_KF = codes_KZ @ of(decoder.linear_MGIO) + (of(decoder.bias_MGO) if book == 0 else 0)
        linear_SKF[stage, : len(codes_KZ), : linear_KF.shape[1]] = linear_KF
        half_SK[stage, : len(codes_KZ)] = 0.5 * np.square(linear_KF).sum(axis=1)
        for finer in range(index, len(levels)):
            weights = of(_to_hidden(levels, index, finer))
            hidden_SLKH[stage, finer, : len(codes_KZ), :hidden] = codes_KZ @ weights
    tables = Tables(
        codes_S=codes_S,
        level_S=np.array([level for level, _ in stages]),
        linear_SFK=np.ascontiguousarray(linear_SKF.transpose(0, 2, 1)),
        linear_SKF=linear_SKF,
        half_SK=half_SK,
        hidden_SLKH=hidden_SLKH,
        bias_LH=bias_LH,
        out_LHF=out_LHF,
    )
    return tables, stages
