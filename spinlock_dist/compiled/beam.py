"""Beam search for the tokens of one category: the loop of `model/beam.py` over rows, with everything of a row in cache.

A stage is a codebook: those of the coarsest level first, within a level in the order they were learned. Features,
hidden units and codes are padded to whole registers. Padding is zero, in rows and tables alike, and adds nothing to any
error; `half_SK` is infinite for padded codes, so that they are never chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spinlock_dist.compiled.build import entry_point, inlined, inner
from spinlock_dist.compiled.vectors import LANES, largest, mapped, nearness

PAD = LANES
"""What sizes are padded to multiples of."""
INFINITE = np.float32(np.inf)


class Tables(NamedTuple):
    """What every code adds. S stages, L levels, K codes, padded; `codes_S` are in use, `level_S` says whose they are.

    `linear_SFK`, and the same turned: what a code adds to the output through its decoder's linear map, the bias with
    the level's first stage; `half_SK` is half of its square. `hidden_SKLH`: what it adds before the hidden layers
    of its own level's decoder and of finer ones. `bias_LH` and `out_LHF` are these layers' biases and output weights.
    """

    codes_S: np.ndarray
    level_S: np.ndarray
    linear_SFK: np.ndarray
    linear_SKF: np.ndarray
    half_SK: np.ndarray
    hidden_SKLH: np.ndarray
    bias_LH: np.ndarray
    out_LHF: np.ndarray


class Beams(NamedTuple):
    """What W partial choices have come to: `left_WF` is what all tokens so far leave of the row, `linear_WF` what they
    give without the hidden layer of the level at work, `hidden_WLH` are the sums before the hidden layers; `near_W` is
    minus the squares of what is left."""

    near_W: np.ndarray
    left_WF: np.ndarray
    linear_WF: np.ndarray
    hidden_WLH: np.ndarray
    tokens_WS: np.ndarray


class Candidates(NamedTuple):
    """C continuations of beams by one token each, `found_1` of them, and room to find them; `near_1C` is minus the
    squared error, minus infinite where there is none."""

    output_CF: np.ndarray
    near_1C: np.ndarray
    beam_C: np.ndarray
    token_C: np.ndarray
    place_C: np.ndarray
    found_1: np.ndarray
    unit_CH: np.ndarray
    score_WK: np.ndarray


@inner
def _beams(tables, width):
    stages, features, _ = tables.linear_SFK.shape
    return Beams(
        np.zeros(width, np.float32),
        np.zeros((width, features), np.float32),
        np.zeros((width, features), np.float32),
        np.zeros((width, *tables.bias_LH.shape), np.float32),
        np.zeros((width, stages), np.int64),
    )


@inner
def _room(tables, width, most):
    _, features, codes = tables.linear_SFK.shape
    return Candidates(
        np.zeros((most, features), np.float32),
        np.zeros((1, most + -most % PAD), np.float32),
        np.zeros(most, np.int64),
        np.zeros(most, np.int64),
        np.zeros(most, np.int64),
        np.zeros(1, np.int64),
        np.zeros((most, tables.out_LHF.shape[1]), np.float32),
        np.zeros((width, codes), np.float32),
    )


@inlined
def _propose(tables, stage, beams, used, room):
    """Choose the continuations whose linear part alone would leave least of the row."""
    most, codes = len(room.token_C), room.score_WK.shape[1]
    found = min(most, used * tables.codes_S[stage])
    for beam in range(used):
        for k in range(codes):  # half of minus |left - code|^2, but for left . code
            room.score_WK[beam, k] = np.float32(0.5) * beams.near_W[beam] - tables.half_SK[stage, k]
    mapped(beams.left_WF[:used].T, tables.linear_SFK[stage], room.score_WK, codes)
    largest(room.score_WK, used, room.place_C, found)
    for at in range(found):
        room.beam_C[at], room.token_C[at] = room.place_C[at] // codes, room.place_C[at] % codes
    room.found_1[0] = found


@inlined
def _outputs(tables, stage, beams, room):
    """Fill in the outputs of the candidates, whose tokens are set: the decoder's own.

    Arrays are indexed where they lie: a view of each row would cost as much as the arithmetic.
    """
    found, level = room.found_1[0], tables.level_S[stage]
    for at in range(found):
        token, beam = room.token_C[at], room.beam_C[at]
        for h in range(room.unit_CH.shape[1]):
            total = beams.hidden_WLH[beam, level, h] + tables.hidden_SKLH[stage, token, level, h]
            room.unit_CH[at, h] = max(total, np.float32(0))
        for f in range(room.output_CF.shape[1]):
            room.output_CF[at, f] = beams.linear_WF[beam, f] + tables.linear_SKF[stage, token, f]
    mapped(room.unit_CH[:found].T, tables.out_LHF[level], room.output_CF, room.output_CF.shape[1])


@inlined
def _keep(tables, stage, beams, kept, room, move):
    """Make a candidate a beam that is kept; `move`: of which row, from which place to which."""
    x_F, at, place = move
    beam, token, level = room.beam_C[at], room.token_C[at], tables.level_S[stage]
    last = tables.level_S[stage + 1] != level
    for s in range(stage):
        kept.tokens_WS[place, s] = beams.tokens_WS[beam, s]
    kept.tokens_WS[place, stage] = token
    for f in range(room.output_CF.shape[1]):
        own = beams.linear_WF[beam, f] + tables.linear_SKF[stage, token, f]
        kept.left_WF[place, f] = x_F[f] - room.output_CF[at, f]
        kept.linear_WF[place, f] = room.output_CF[at, f] if last else own
    for finer in range(level + 1 if last else level, len(tables.bias_LH)):
        for h in range(room.unit_CH.shape[1]):
            added = tables.hidden_SKLH[stage, token, finer, h]
            kept.hidden_WLH[place, finer, h] = beams.hidden_WLH[beam, finer, h] + added


@entry_point
def search(tables, x_NF, width, most):
    """Tokens `[N, S]` of rows by beams of `width`, from `most` candidates at a stage."""
    stages = len(tables.codes_S)
    tokens_NS = np.empty((len(x_NF), stages), np.int64)
    one, other = _beams(tables, width), _beams(tables, width)
    room = _room(tables, width, most)
    for n in range(len(x_NF)):
        beams, kept, used = one, other, 1
        beams.near_W[0] = 0
        beams.left_WF[0] = x_NF[n]
        beams.linear_WF[0] = 0
        beams.hidden_WLH[0] = tables.bias_LH
        for stage in range(stages):
            _propose(tables, stage, beams, used, room)
            _outputs(tables, stage, beams, room)
            room.near_1C[:] = -INFINITE
            nearness(x_NF[n : n + 1], room.output_CF, room.near_1C[0], room.found_1[0])
            if stage == stages - 1:
                largest(room.near_1C, 1, room.place_C, 1)
                best = room.place_C[0]
                tokens_NS[n] = beams.tokens_WS[room.beam_C[best]]
                tokens_NS[n, stage] = room.token_C[best]
                break
            used = min(width, room.found_1[0])
            largest(room.near_1C, 1, room.place_C, used)
            for place in range(used):
                best = room.place_C[place]
                kept.near_W[place] = room.near_1C[0, best]
                _keep(tables, stage, beams, kept, room, (x_NF[n], best, place))
            beams, kept = kept, beams
    return tokens_NS
