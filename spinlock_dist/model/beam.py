"""Beam search at encoding: the tokens of all levels and codebooks of a category chosen together.

Encoders name a code at each level before it is known what finer levels can make of it. Here the decoder is asked: from
coarse to fine, and within a level from one codebook to the next, the `width` best partial choices are kept, by the
squared error of what the decoder makes of them. Candidates are the continuations, of all beams, whose linear part alone
brings the output nearest; of them the error with the hidden layer is computed. Everything a code does to a decoder is a
table, since decoders are linear before and after their hidden layers. (Beam search in residual quantization: Babenko &
Lempitsky 2014; with decoders that are networks: Huijben et al. 2024.)

Letters are those of `layout.py`; besides, S are codebooks of a level, W beams, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from spinlock_dist import compiled
from spinlock_dist.device import on_threads
from spinlock_dist.model.level import Level
from spinlock_dist.model.quantizers.ema import EMAQuantizer

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


def candidates_of(width: int) -> int:
    """Continuations of which the error is computed at a stage. With all there are it falls by another 0.02 %."""
    return max(8, 2 * width)


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
    size = max(1, cells // (members * groups * candidates_of(width) * features))
    parts = [_search(levels, target_MGBF[:, :, at : at + size], width) for at in range(0, max(rows, 1), size)]
    return [torch.cat(tokens, dim=2) for tokens in zip(*parts, strict=True)]


def _search(levels: Sequence[Level], x_MGBF: Tensor, width: int) -> list[Tensor]:
    *batch, features = x_MGBF.shape
    base_MGBWF = output_MGBWF = x_MGBF.new_zeros(*batch, 1, features)
    hidden = [level.decoder.hidden_bias_MGH[:, :, None, None].expand(*batch, 1, -1) for level in levels]
    lost_MGBW = x_MGBF.new_zeros(*batch, 1)  # minus infinite where a category has fewer choices than there are beams
    tokens_MGBWS = torch.zeros(*batch, 1, 0, dtype=torch.long, device=x_MGBF.device)

    def chosen(each_MGBWX: Tensor, place_MGBC: Tensor) -> Tensor:
        return each_MGBWX.gather(3, place_MGBC[..., None].expand(*place_MGBC.shape, each_MGBWX.shape[-1]))

    for index, level in enumerate(levels):
        quantizer, decoder = _quantizer(level), level.decoder
        for book in range(quantizer.books):
            codes_MGKZ = quantizer.codebook_MGSKZ[:, :, book]
            linear_MGKF = codes_MGKZ @ decoder.linear_MGIO
            if book == 0:
                linear_MGKF = linear_MGKF + decoder.bias_MGO[:, :, None]
            usable_MGK = ~quantizer.unused_MGSK[:, :, book]
            usable_MGK[..., 0] |= ~usable_MGK.any(dim=-1)  # where there is no such codebook: its zero code
            left_MGBWF = x_MGBF[:, :, :, None] - output_MGBWF
            bias_MGK = torch.where(usable_MGK, -0.5 * linear_MGKF.square().sum(dim=-1), -torch.inf)
            bias_MGBW = lost_MGBW - 0.5 * left_MGBWF.square().sum(dim=-1)
            score_MGBWK = left_MGBWF @ linear_MGKF.mT[:, :, None] + bias_MGK[:, :, None, None] + bias_MGBW[..., None]
            score_MGBI = score_MGBWK.flatten(3)
            score_MGBC, place_MGBC = score_MGBI.topk(min(candidates_of(width), score_MGBI.shape[-1]), dim=-1)
            codes = score_MGBWK.shape[-1]
            candidates = place_MGBC // codes, place_MGBC % codes

            def add(before_MGBWO: Tensor, table_MGKO: Tensor, candidates: tuple[Tensor, Tensor] = candidates) -> Tensor:
                beam_MGBC, code_MGBC = candidates
                flat = code_MGBC.flatten(2)[..., None].expand(-1, -1, -1, table_MGKO.shape[-1])
                return chosen(before_MGBWO, beam_MGBC) + table_MGKO.gather(2, flat).unflatten(2, code_MGBC.shape[2:])

            linear_MGBCF = add(base_MGBWF, linear_MGKF)
            sums = [
                add(hidden[finer], codes_MGKZ @ _to_hidden(levels, index, finer)) for finer in range(index, len(levels))
            ]
            output_MGBCF = linear_MGBCF + sums[0].relu() @ decoder.out_MGHO[:, :, None]
            error_MGBC = (x_MGBF[:, :, :, None] - output_MGBCF).square().sum(dim=-1)
            error_MGBC = error_MGBC.masked_fill(score_MGBC == -torch.inf, torch.inf)
            least_MGBW, best_MGBW = error_MGBC.topk(min(width, error_MGBC.shape[-1]), dim=-1, largest=False)
            lost_MGBW = torch.where(least_MGBW == torch.inf, -torch.inf, 0.0)
            tokens_MGBCS = torch.cat([chosen(tokens_MGBWS, candidates[0]), candidates[1][..., None]], dim=-1)
            tokens_MGBWS = chosen(tokens_MGBCS, best_MGBW)
            base_MGBWF, output_MGBWF = chosen(linear_MGBCF, best_MGBW), chosen(output_MGBCF, best_MGBW)
            hidden[index:] = [chosen(each, best_MGBW) for each in sums]
        base_MGBWF = output_MGBWF
    books = [_quantizer(level).books for level in levels]
    return list(tokens_MGBWS[..., 0, :].split(books, dim=-1))


# ---------------------------------------------------------------- compiled, category by category


@torch.no_grad()
def search_by_rows(levels: Sequence[Level], target_MGBF: Tensor, width: int) -> list[Tensor]:
    """Row by row, each category of each member by itself."""
    from spinlock_dist.compiled.beam import PAD
    from spinlock_dist.compiled.beam import search as kernel

    members, groups, rows, features = target_MGBF.shape
    padded = np.zeros((members, groups, rows, features + -features % PAD), np.float32)
    padded[..., :features] = target_MGBF.numpy()
    found = [torch.zeros(members, groups, rows, _quantizer(level).books, dtype=torch.long) for level in levels]

    parts = [_Parts.of(levels, index) for index in range(len(levels))]

    def one(place: tuple[int, int]) -> None:
        tables, stages = _tables(levels, parts, place, padded.shape[-1])
        tokens_NS = kernel(tables, padded[place], width, candidates_of(width))
        for stage, (level, book) in enumerate(stages):
            found[level][place][:, book] = torch.from_numpy(tokens_NS[:, stage])

    on_threads(one, [(member, group) for member in range(members) for group in range(groups)])
    return found


class _Parts(NamedTuple):
    """What the codes of one level add, of all members and categories: to the output through the linear map of its
    decoder `[M, G, S, K, F]`, and before the hidden layers of its own and of finer levels `[M, G, S, K, H]`; and the
    biases and output weights of its own hidden layer."""

    linear: np.ndarray
    hidden: list[np.ndarray]
    bias: np.ndarray
    out: np.ndarray

    @classmethod
    def of(cls, levels: Sequence[Level], index: int) -> _Parts:
        codes_MGSKZ, decoder = _quantizer(levels[index]).codebook_MGSKZ, levels[index].decoder
        linear_MGSKF = codes_MGSKZ @ decoder.linear_MGIO[:, :, None]
        linear_MGSKF[:, :, 0] += decoder.bias_MGO[:, :, None]
        weights = [_to_hidden(levels, index, finer)[:, :, None] for finer in range(index, len(levels))]
        return cls(
            linear_MGSKF.numpy(),
            [(codes_MGSKZ @ each).numpy() for each in weights],
            decoder.hidden_bias_MGH.detach().numpy(),
            decoder.out_MGHO.detach().numpy(),
        )


def _tables(
    levels: Sequence[Level], parts: Sequence[_Parts], place: tuple[int, int], features: int
) -> tuple[Any, list[tuple[int, int]]]:
    """Tables of one category, and the level and codebook of each stage."""
    from spinlock_dist.compiled.beam import PAD, Tables

    learned = [_quantizer(level).learned(*place) for level in levels]
    stages = [(level, book) for level, books in enumerate(learned) for book in range(len(books))]
    codes_S = np.array([learned[level][book] for level, book in stages])
    hidden, own = parts[0].out.shape[2:]
    units, most = hidden + -hidden % PAD, codes_S.max() + -codes_S.max() % PAD
    linear_SKF = np.zeros((len(stages), most, features), np.float32)
    half_SK = np.full((len(stages), most), np.inf, np.float32)
    hidden_SKLH = np.zeros((len(stages), most, len(levels), units), np.float32)
    bias_LH, out_LHF = np.zeros((len(levels), units), np.float32), np.zeros((len(levels), units, features), np.float32)
    for index, part in enumerate(parts):
        out_LHF[index, :hidden, :own], bias_LH[index, :hidden] = part.out[place], part.bias[place]
    for stage, (index, book) in enumerate(stages):
        codes, part = codes_S[stage], parts[index]
        linear_SKF[stage, :codes, :own] = part.linear[place][book, :codes]
        half_SK[stage, :codes] = 0.5 * np.square(linear_SKF[stage, :codes]).sum(axis=1)
        for finer, added in enumerate(part.hidden, start=index):
            hidden_SKLH[stage, :codes, finer, :hidden] = added[place][book, :codes]
    tables = Tables(
        codes_S=codes_S,
        level_S=np.array([level for level, _ in stages]),
        linear_SFK=np.ascontiguousarray(linear_SKF.transpose(0, 2, 1)),
        linear_SKF=linear_SKF,
        half_SK=half_SK,
        hidden_SKLH=hidden_SKLH,
        bias_LH=bias_LH,
        out_LHF=out_LHF,
    )
    return tables, stages
