"""Beam search for the tokens of one category: the loop of `model/beam.py` over rows, with everything of a row in cache.

A stage is a codebook: those of the coarsest level first, within a level in the order they were learned. Features,
hidden units and codes are padded to multiples of `PAD`, and loops go over them `PAD` at a time: of loops of unknown
length the compiler would do the first hundred turns one by one, and these have 16 to 64. Padding is zero, in rows and
tables alike, and adds nothing to any error; `half_SK` is infinite for padded codes, so that they are never chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spinlock_dist.compiled.build import entry_point, inlined, inner

PAD = 8
"""Float32 numbers in the widest register there is."""
INFINITE = np.float32(np.inf)


class Tables(NamedTuple):
    """What every code adds. S stages, L levels, K codes, padded; `codes_S` are in use, `level_S` says whose they are.

    `linear_SFK`, and the same turned: what a code adds to the output through its decoder's linear map, the bias with
    the level's first stage; `half_SK` is half of its square. `hidden_SLKH`: what it adds before the hidden layer of its
    own level's decoder and of finer ones. `bias_LH` and `out_LHF` are that layer's biases and output weights.
    """

    codes_S: np.ndarray
    level_S: np.ndarray
    linear_SFK: np.ndarray
    linear_SKF: np.ndarray
    half_SK: np.ndarray
    hidden_SLKH: np.ndarray
    bias_LH: np.ndarray
    out_LHF: np.ndarray


class Beams(NamedTuple):
    """What W partial choices have come to: `output_WF` of all tokens so far, `linear_WF` the same without the hidden
    layer of the level at work, `hidden_WLH` the sums before the hidden layers, and the tokens themselves."""

    output_WF: np.ndarray
    linear_WF: np.ndarray
    hidden_WLH: np.ndarray
    tokens_WS: np.ndarray


class Candidates(NamedTuple):
    """Continuations of all beams by one token each, `found_1` of them, and room to find them."""

    output_CF: np.ndarray
    error_C: np.ndarray
    beam_C: np.ndarray
    token_C: np.ndarray
    found_1: np.ndarray
    score_K: np.ndarray
    unit_H: np.ndarray


@inner
def _beams(tables, width):
    stages, features, _ = tables.linear_SFK.shape
    levels, hidden = tables.bias_LH.shape
    return Beams(
        np.zeros((width, features), np.float32),
        np.zeros((width, features), np.float32),
        np.zeros((width, levels, hidden), np.float32),
        np.zeros((width, stages), np.int64),
    )


@inner
def _room(features, codes, hidden, most):
    return Candidates(
        np.zeros((most, features), np.float32),
        np.zeros(most, np.float32),
        np.zeros(most, np.int64),
        np.zeros(most, np.int64),
        np.zeros(1, np.int64),
        np.zeros(codes, np.float32),
        np.zeros(hidden, np.float32),
    )


@inlined
def _score(tables, stage, x_NF, beams, place, room):
    """How well each code's linear part fills what is left: half of |left|^2 - |left - code|^2; `place`: row, beam."""
    row, beam = place
    count = tables.codes_S[stage]
    for k in range(count):
        room.score_K[k] = -tables.half_SK[stage, k]
    for f in range(0, x_NF.shape[1], 4):
        a = x_NF[row, f] - beams.output_WF[beam, f]
        b = x_NF[row, f + 1] - beams.output_WF[beam, f + 1]
        c = x_NF[row, f + 2] - beams.output_WF[beam, f + 2]
        d = x_NF[row, f + 3] - beams.output_WF[beam, f + 3]
        for k in range(count):
            first = a * tables.linear_SFK[stage, f, k] + b * tables.linear_SFK[stage, f + 1, k]
            second = c * tables.linear_SFK[stage, f + 2, k] + d * tables.linear_SFK[stage, f + 3, k]
            room.score_K[k] += first + second


@inlined
def _continue(tables, stage, beams, beam, room, at):
    """Fill in the output of candidate `at`, whose token is set: the decoder's own.

    Arrays are indexed where they lie: a view of each row would cost as much as the arithmetic.
    """
    token, level = room.token_C[at], tables.level_S[stage]
    features, hidden = room.output_CF.shape[1], len(room.unit_H)
    for h in range(hidden):
        total = beams.hidden_WLH[beam, level, h] + tables.hidden_SLKH[stage, level, token, h]
        room.unit_H[h] = max(total, np.float32(0))
    for f in range(features):
        room.output_CF[at, f] = beams.linear_WF[beam, f] + tables.linear_SKF[stage, token, f]
    for h in range(0, hidden, 4):
        a, b, c, d = room.unit_H[h], room.unit_H[h + 1], room.unit_H[h + 2], room.unit_H[h + 3]
        for f in range(features):
            first = a * tables.out_LHF[level, h, f] + b * tables.out_LHF[level, h + 1, f]
            second = c * tables.out_LHF[level, h + 2, f] + d * tables.out_LHF[level, h + 3, f]
            room.output_CF[at, f] += first + second


@inlined
def _keep(tables, stage, beams, kept, room, move):
    """Make a candidate a beam that is kept; `move`: from which place to which."""
    at, place = move
    beam, token, level = room.beam_C[at], room.token_C[at], tables.level_S[stage]
    last = stage + 1 == len(tables.level_S) or tables.level_S[stage + 1] != level
    for s in range(stage):
        kept.tokens_WS[place, s] = beams.tokens_WS[beam, s]
    kept.tokens_WS[place, stage] = token
    for f in range(room.output_CF.shape[1]):
        own = beams.linear_WF[beam, f] + tables.linear_SKF[stage, token, f]
        kept.output_WF[place, f] = room.output_CF[at, f]
        kept.linear_WF[place, f] = room.output_CF[at, f] if last else own
    for finer in range(level, len(tables.bias_LH)):
        for h in range(len(room.unit_H)):
            added = tables.hidden_SLKH[stage, finer, token, h]
            kept.hidden_WLH[place, finer, h] = beams.hidden_WLH[beam, finer, h] + added


@inlined
def _propose(tables, stage, beams, beam, room, most):
    """Append the `most` best scored codes to the candidates, continuing a beam; `found` counts them."""
    count, found = tables.codes_S[stage], room.found_1[0]
    for at in range(found, found + min(most, count)):
        best, token = -INFINITE, 0
        for k in range(count):
            if room.score_K[k] > best:
                best, token = room.score_K[k], k
        room.score_K[token] = -INFINITE
        room.token_C[at], room.beam_C[at] = token, beam
        _continue(tables, stage, beams, beam, room, at)
    room.found_1[0] = found + min(most, count)


@inlined
def _select(tables, stage, beams, kept, room):
    """Keep the candidates of least error, the best first; returns how many."""
    found = room.found_1[0]
    width = min(len(kept.output_WF), found)
    for place in range(width):
        best = 0
        for at in range(1, found):
            if room.error_C[at] < room.error_C[best]:
                best = at
        _keep(tables, stage, beams, kept, room, (best, place))
        room.error_C[best] = INFINITE
    return width


@entry_point
def search(tables, x_NF, width, most):
    """Tokens `[N, S]` of rows by beams of `width`, each continued by the `most` promising codes."""
    stages, features, codes = tables.linear_SFK.shape
    tokens_NS = np.empty((len(x_NF), stages), np.int64)
    one, other = _beams(tables, width), _beams(tables, width)
    room = _room(features, codes, tables.bias_LH.shape[1], width * most)
    for n in range(len(x_NF)):
        beams, kept, used = one, other, 1
        beams.output_WF[0] = 0
        beams.linear_WF[0] = 0
        beams.hidden_WLH[0] = tables.bias_LH
        for stage in range(stages):
            room.found_1[0] = 0
            for beam in range(used):
                _score(tables, stage, x_NF, beams, (n, beam), room)
                _propose(tables, stage, beams, beam, room, most)
            for at in range(room.found_1[0]):
                error = np.float32(0)
                for f in range(features):
                    error += (x_NF[n, f] - room.output_CF[at, f]) * (x_NF[n, f] - room.output_CF[at, f])
                room.error_C[at] = error
            used = _select(tables, stage, beams, kept, room)
            beams, kept = kept, beams
        tokens_NS[n] = beams.tokens_WS[0]
    return tokens_NS
