"""k-means++ and Lloyd's algorithm; the same draws lead to the same centres as in `model/kmeans.py`, up to rounding."""

from __future__ import annotations

import numpy as np

from spinlock_dist.compiled.build import entry_point, inner
from spinlock_dist.compiled.products import add_mapped

BLOCK = 512
FAR = np.float32(3e38)


@inner
def _assign(x_ZN, centres_KZ, nearest_N, distance_N):
    """Fill in each row's nearest centre and its squared distance, as |x|^2 - 2 (x.c - |c|^2 / 2)."""
    dims, total = x_ZN.shape
    count = len(centres_KZ)
    turned_ZK = np.ascontiguousarray(centres_KZ.T)
    x_ZR, score_KR = np.empty((dims, BLOCK), np.float32), np.empty((count, BLOCK), np.float32)
    best_R, token_R = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int64)
    for start in range(0, total, BLOCK):
        rows = min(BLOCK, total - start)
        for z in range(dims):
            x_ZR[z, :rows] = x_ZN[z, start : start + rows]
        for k in range(count):
            half = np.float32(0)
            for z in range(dims):
                half += centres_KZ[k, z] * centres_KZ[k, z]
            score_KR[k, :rows] = np.float32(-0.5) * half
        add_mapped(turned_ZK, x_ZR, score_KR, rows)
        best_R[:] = -FAR
        token_R[:] = 0
        for k in range(count):
            score_R = score_KR[k]
            for r in range(rows):
                better = score_R[r] > best_R[r]
                best_R[r] = score_R[r] if better else best_R[r]
                token_R[r] = k if better else token_R[r]
        nearest_N[start : start + rows] = token_R[:rows]
        left_N = distance_N[start : start + rows]
        left_N[:] = np.float32(-2) * best_R[:rows]
        for z in range(dims):
            for r in range(rows):
                left_N[r] += x_ZR[z, r] * x_ZR[z, r]


@inner
def _plus_plus(x_ZN, draws_K, centres_KZ):
    """Choose rows as the first centres, each in proportion to its squared distance from those before it (Arthur &
    Vassilvitskii 2007)."""
    dims, total = x_ZN.shape
    distance_N, own_N = np.full(total, FAR, np.float32), np.empty(total, np.float32)
    row = int(draws_K[0] * total)
    for k in range(len(draws_K)):
        if k > 0:
            mass = 0.0
            for n in range(total):
                mass += np.float64(distance_N[n])
            target, reached, row = draws_K[k] * mass, 0.0, total - 1
            for n in range(total):
                reached += np.float64(distance_N[n])
                if reached >= target:
                    row = n
                    break
        own_N[:] = 0
        for z in range(dims):
            centre, x_N = x_ZN[z, row], x_ZN[z]
            centres_KZ[k, z] = centre
            for n in range(total):
                own_N[n] += (x_N[n] - centre) * (x_N[n] - centre)
        for n in range(total):
            distance_N[n] = min(distance_N[n], own_N[n])


@inner
def _move(x_ZN, centres_KZ, nearest_N, distance_N):
    """Put every centre on the mean of its rows; one without rows on the row farthest from its centre."""
    dims, total = x_ZN.shape
    count = len(centres_KZ)
    rows_K, sums_ZK = np.zeros(count, np.float32), np.zeros((dims, count), np.float32)
    for n in range(total):
        rows_K[nearest_N[n]] += 1
    for z in range(dims):
        x_N, sums_K = x_ZN[z], sums_ZK[z]
        for n in range(total):
            sums_K[nearest_N[n]] += x_N[n]
    for k in range(count):
        farthest = 0
        if rows_K[k] == 0:
            farthest = np.argmax(distance_N)
            distance_N[farthest] = -FAR  # the next one without rows takes the next farthest
        for z in range(dims):
            centres_KZ[k, z] = sums_ZK[z, k] / rows_K[k] if rows_K[k] > 0 else x_ZN[z, farthest]


@entry_point
def kmeans(x_ZN, draws_K, iterations):
    """Centres `[K, Z]` and each row's nearest `[N]`, from uniform `draws` in [0, 1)."""
    centres_KZ = np.zeros((len(draws_K), x_ZN.shape[0]), np.float32)
    nearest_N, distance_N = np.zeros(x_ZN.shape[1], np.int64), np.empty(x_ZN.shape[1], np.float32)
    _plus_plus(x_ZN, draws_K, centres_KZ)
    before_N = np.full_like(nearest_N, -1)
    for _ in range(iterations):
        _assign(x_ZN, centres_KZ, nearest_N, distance_N)
        if np.array_equal(nearest_N, before_N):
            return centres_KZ, nearest_N  # a fixed point: no centre would move
        before_N[:] = nearest_N
        _move(x_ZN, centres_KZ, nearest_N, distance_N)
    _assign(x_ZN, centres_KZ, nearest_N, distance_N)
    return centres_KZ, nearest_N
