"""Matrix products of a layer, in single precision, adding to the result.

Activations are feature-major, `[features, rows]`: rows are contiguous, so that every loop over them uses the full
width of the processor's registers whatever the number of features. Letters are those of `model/layout.py`; besides, R
are the rows of a block (`rows` of them in use), I and O the inputs and outputs of a layer.

A layer has 4 to 50 inputs and outputs. A BLAS, which first copies its operands into panels, reaches a third of what
these loops do at such sizes (benchmarks/step.py). Both go over tiles of four by four: sixteen products for eight rows
that are read, which the first-level cache can follow.
"""

from __future__ import annotations

import numpy as np

from spinlock_dist.compiled.build import inlined, inner

TILE = 4


@inner
def add_mapped(weights_IO, x_IR, out_OR, rows):
    """out += weights.T @ x: what a layer gives."""
    inputs, outputs = weights_IO.shape
    whole = outputs - outputs % TILE
    for o in range(0, whole, TILE):
        _four_outputs(weights_IO[:, o : o + TILE], x_IR, out_OR[o : o + TILE], rows)
    for o in range(whole, outputs):
        out_R = out_OR[o]
        tiled = inputs - inputs % TILE
        for i in range(0, tiled, TILE):
            w0, w1, w2, w3 = weights_IO[i, o], weights_IO[i + 1, o], weights_IO[i + 2, o], weights_IO[i + 3, o]
            x0, x1, x2, x3 = x_IR[i], x_IR[i + 1], x_IR[i + 2], x_IR[i + 3]
            for r in range(rows):
                out_R[r] += w0 * x0[r] + w1 * x1[r] + w2 * x2[r] + w3 * x3[r]
        for i in range(tiled, inputs):
            w0, x0 = weights_IO[i, o], x_IR[i]
            for r in range(rows):
                out_R[r] += w0 * x0[r]


@inlined
def _four_outputs(w_I4, x_IR, out_4R, rows):
    inputs = len(w_I4)
    out0, out1, out2, out3 = out_4R[0], out_4R[1], out_4R[2], out_4R[3]
    tiled = inputs - inputs % TILE
    for i in range(0, tiled, TILE):
        x0, x1, x2, x3 = x_IR[i], x_IR[i + 1], x_IR[i + 2], x_IR[i + 3]
        a0, a1, a2, a3 = w_I4[i, 0], w_I4[i, 1], w_I4[i, 2], w_I4[i, 3]
        b0, b1, b2, b3 = w_I4[i + 1, 0], w_I4[i + 1, 1], w_I4[i + 1, 2], w_I4[i + 1, 3]
        c0, c1, c2, c3 = w_I4[i + 2, 0], w_I4[i + 2, 1], w_I4[i + 2, 2], w_I4[i + 2, 3]
        d0, d1, d2, d3 = w_I4[i + 3, 0], w_I4[i + 3, 1], w_I4[i + 3, 2], w_I4[i + 3, 3]
        for r in range(rows):
            p, q, s, t = x0[r], x1[r], x2[r], x3[r]
            out0[r] += a0 * p + b0 * q + c0 * s + d0 * t
            out1[r] += a1 * p + b1 * q + c1 * s + d1 * t
            out2[r] += a2 * p + b2 * q + c2 * s + d2 * t
            out3[r] += a3 * p + b3 * q + c3 * s + d3 * t
    for i in range(tiled, inputs):
        x0 = x_IR[i]
        a0, a1, a2, a3 = w_I4[i, 0], w_I4[i, 1], w_I4[i, 2], w_I4[i, 3]
        for r in range(rows):
            p = x0[r]
            out0[r] += a0 * p
            out1[r] += a1 * p
            out2[r] += a2 * p
            out3[r] += a3 * p


@inner
def add_mapped_back(weights_IO, g_OR, out_IR, rows):
    """out += weights @ g: the gradient of a layer's input, given that of its output."""
    inputs, outputs = weights_IO.shape
    if inputs == 0:
        return
    turned_OI = np.empty((outputs, inputs), np.float32)
    for i in range(inputs):
        for o in range(outputs):
            turned_OI[o, i] = weights_IO[i, o]
    add_mapped(turned_OI, g_OR, out_IR, rows)


@inner
def add_outer(x_IR, g_OR, weights_IO, rows):
    """weights += x @ g.T: the gradient of a layer's weights."""
    inputs, outputs = weights_IO.shape
    whole = outputs - outputs % TILE
    tiled = inputs - inputs % TILE
    for i in range(0, tiled, TILE):
        for o in range(0, whole, TILE):
            _tile_of_outer(x_IR[i : i + TILE], g_OR[o : o + TILE], weights_IO[i : i + TILE, o : o + TILE], rows)
        x0, x1, x2, x3 = x_IR[i], x_IR[i + 1], x_IR[i + 2], x_IR[i + 3]
        for o in range(whole, outputs):
            g_R, s0, s1, s2, s3 = g_OR[o], np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for r in range(rows):
                s0 += x0[r] * g_R[r]
                s1 += x1[r] * g_R[r]
                s2 += x2[r] * g_R[r]
                s3 += x3[r] * g_R[r]
            weights_IO[i, o] += s0
            weights_IO[i + 1, o] += s1
            weights_IO[i + 2, o] += s2
            weights_IO[i + 3, o] += s3
    for i in range(tiled, inputs):
        for o in range(outputs):
            x_R, g_R, s0 = x_IR[i], g_OR[o], np.float32(0)
            for r in range(rows):
                s0 += x_R[r] * g_R[r]
            weights_IO[i, o] += s0


@inlined
def _tile_of_outer(x_4R, g_4R, weights_44, rows):
    x0, x1, x2, x3 = x_4R[0], x_4R[1], x_4R[2], x_4R[3]
    g0, g1, g2, g3 = g_4R[0], g_4R[1], g_4R[2], g_4R[3]
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
    c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = np.float32(0)
    for r in range(rows):
        p, q, s, t = x0[r], x1[r], x2[r], x3[r]
        e, f, g, h = g0[r], g1[r], g2[r], g3[r]
        a0 += p * e
        a1 += p * f
        a2 += p * g
        a3 += p * h
        b0 += q * e
        b1 += q * f
        b2 += q * g
        b3 += q * h
        c0 += s * e
        c1 += s * f
        c2 += s * g
        c3 += s * h
        d0 += t * e
        d1 += t * f
        d2 += t * g
        d3 += t * h
    for row, sums in enumerate(((a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3))):
        for column, total in enumerate(sums):
            weights_44[row, column] += total
