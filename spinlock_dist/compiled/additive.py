"""Additive codes of one category: beam search for the tokens, and the normal equations of all codebooks together.

A row is the sum of one code of every codebook. The codes `[K, F]` of S codebooks lie one after another, `codes_S` of
each. What a code k gains once others are chosen is x.c_k - |c_k|^2 / 2 minus its products with those: the products of
codes are a table, so that features are looked at once a row, whatever the number of beams.
"""

from __future__ import annotations

import numpy as np

from spinlock_dist.compiled.build import entry_point, inlined

LEAST = np.float32(-3e38)
UNROLLED = 4


@inlined
def _score(x_NF, row, turned_FK, half_K, score_K):
    """score = x.c - |c|^2 / 2 of every code: half of what it lowers |x|^2 by."""
    codes = len(half_K)
    for k in range(codes):
        score_K[k] = -half_K[k]
    features = x_NF.shape[1]
    whole = features - features % UNROLLED
    for f in range(0, whole, UNROLLED):
        a, b, c, d = x_NF[row, f], x_NF[row, f + 1], x_NF[row, f + 2], x_NF[row, f + 3]
        for k in range(codes):
            first = a * turned_FK[f, k] + b * turned_FK[f + 1, k]
            second = c * turned_FK[f + 2, k] + d * turned_FK[f + 3, k]
            score_K[k] += first + second
    for f in range(whole, features):
        a = x_NF[row, f]
        for k in range(codes):
            score_K[k] += a * turned_FK[f, k]


@inlined
def _offer(gain_W, beam_W, code_W, gain, beam, code):
    """Insert a candidate that is better than the last one kept; the best stand first."""
    place = len(gain_W) - 1
    while place > 0 and gain_W[place - 1] < gain:
        gain_W[place], beam_W[place], code_W[place] = gain_W[place - 1], beam_W[place - 1], code_W[place - 1]
        place -= 1
    gain_W[place], beam_W[place], code_W[place] = gain, beam, code


@entry_point
def search(x_NF, codes_KF, products_KK, codes_S, width):
    """Tokens `[N, S]` of least squared error among beams of `width`, of codes with `products` c_i.c_k."""
    total, stages = len(codes_KF), len(codes_S)
    turned_FK = np.ascontiguousarray(codes_KF.T)
    half_K = np.empty(total, np.float32)
    for k in range(total):
        half_K[k] = np.float32(0.5) * products_KK[k, k]
    tokens_NS = np.empty((len(x_NF), stages), np.int64)
    score_WK, next_WK = np.empty((width, total), np.float32), np.empty((width, total), np.float32)
    chosen_WS, next_WS = np.empty((width, stages), np.int64), np.empty((width, stages), np.int64)
    gain_W, before_W = np.empty(width, np.float32), np.empty(width, np.float32)
    beam_W, code_W = np.empty(width, np.int64), np.empty(width, np.int64)
    for n in range(len(x_NF)):
        _score(x_NF, n, turned_FK, half_K, score_WK[0])
        before_W[0], used, first = 0, 1, 0
        for stage in range(stages):
            last = first + codes_S[stage]
            gain_W[:] = LEAST
            for beam in range(used):
                for k in range(first, last):
                    gain = before_W[beam] + score_WK[beam, k]
                    if gain > gain_W[width - 1]:
                        _offer(gain_W, beam_W, code_W, gain, beam, k)
            used = min(width, used * codes_S[stage])
            for place in range(used):
                beam, code = beam_W[place], code_W[place]
                before_W[place] = gain_W[place]
                for s in range(stage):
                    next_WS[place, s] = chosen_WS[beam, s]
                next_WS[place, stage] = code - first
                for k in range(last, total):
                    next_WK[place, k] = score_WK[beam, k] - products_KK[code, k]
            score_WK, next_WK = next_WK, score_WK
            chosen_WS, next_WS = next_WS, chosen_WS
            first = last
        tokens_NS[n] = chosen_WS[0]
    return tokens_NS


@entry_point
def normal_equations(x_NF, tokens_NS, codes_S):
    """How many rows have each pair of codes `[K, K]`, and the sum of the rows that have each code `[K, F]`."""
    total, features = np.sum(codes_S), x_NF.shape[1]
    counts_KK, sums_KF = np.zeros((total, total)), np.zeros((total, features))
    code_S = np.empty(len(codes_S), np.int64)
    for n in range(len(x_NF)):
        first = 0
        for stage in range(len(codes_S)):
            code_S[stage] = first + tokens_NS[n, stage]
            first += codes_S[stage]
            for other in range(stage + 1):
                counts_KK[code_S[stage], code_S[other]] += 1
            for f in range(features):
                sums_KF[code_S[stage], f] += np.float64(x_NF[n, f])
    for i in range(total):
        for k in range(i):
            counts_KK[k, i] = counts_KK[i, k]
    return counts_KK, sums_KF
