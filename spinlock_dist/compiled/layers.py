"""`GroupMLP` of one category, forward and backward: a linear map plus a one-hidden-layer correction.

Its weights lie one after the other in a flat array: linear `[I, O]`, bias `[O]`, hidden layer of the input `[I, H]` and
of the context `[C, H]`, its bias `[H]`, output layer `[H, O]`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spinlock_dist.compiled.build import inner
from spinlock_dist.compiled.products import add_mapped, add_mapped_back, add_outer


class MLP(NamedTuple):
    """Views of one network's weights, or of their gradients."""

    linear_IO: np.ndarray
    bias_O: np.ndarray
    hidden_IH: np.ndarray
    context_CH: np.ndarray
    hidden_bias_H: np.ndarray
    out_HO: np.ndarray


def mlp_size(inputs: int, context: int, hidden: int, outputs: int) -> int:
    """Number of weights."""
    return (inputs + 1) * outputs + (inputs + context + 1) * hidden + hidden * outputs


@inner
def mlp_at(flat, at, sizes):
    """The network that begins at `at`; `sizes` are its inputs, context, hidden units and outputs."""
    i, c, h, o = sizes
    linear = flat[at : at + i * o].reshape(i, o)
    at += i * o
    bias = flat[at : at + o]
    at += o
    hidden = flat[at : at + i * h].reshape(i, h)
    at += i * h
    context = flat[at : at + c * h].reshape(c, h)
    at += c * h
    return MLP(linear, bias, hidden, context, flat[at : at + h], flat[at + h : at + h + h * o].reshape(h, o))


@inner
def forward(mlp, seen, out_OR, rows, add):
    """Put the output into `out`, or `add` it to what is there. `seen`: input, context, and the hidden layer to fill."""
    x_IR, context_CR, hidden_HR = seen
    for h in range(len(mlp.hidden_bias_H)):
        hidden_HR[h, :rows] = mlp.hidden_bias_H[h]
    add_mapped(mlp.hidden_IH, x_IR, hidden_HR, rows)
    add_mapped(mlp.context_CH, context_CR, hidden_HR, rows)
    for h in range(len(mlp.hidden_bias_H)):
        unit_R = hidden_HR[h]
        for r in range(rows):
            unit_R[r] = max(unit_R[r], np.float32(0))
    for o in range(len(mlp.bias_O)):
        cell_R, bias = out_OR[o], mlp.bias_O[o]
        for r in range(rows):
            cell_R[r] = (cell_R[r] if add else np.float32(0)) + bias
    add_mapped(mlp.linear_IO, x_IR, out_OR, rows)
    add_mapped(mlp.out_HO, hidden_HR, out_OR, rows)


@inner
def backward(mlp, gradient, seen, g_OR, to_hidden_HR, rows):
    """Add to the weights' `gradient` what the output's `g` asks for; leave that of the hidden layer in `to_hidden`.

    `seen` are the input, the context and the hidden layer of the forward pass.
    """
    x_IR, context_CR, hidden_HR = seen
    to_hidden_HR[:, :rows] = 0
    add_mapped_back(mlp.out_HO, g_OR, to_hidden_HR, rows)
    for h in range(len(mlp.hidden_bias_H)):
        unit_R, active_R, total = to_hidden_HR[h], hidden_HR[h], np.float32(0)
        for r in range(rows):
            unit_R[r] = unit_R[r] if active_R[r] > 0 else np.float32(0)
            total += unit_R[r]
        gradient.hidden_bias_H[h] += total
    for o in range(len(mlp.bias_O)):
        cell_R, total = g_OR[o], np.float32(0)
        for r in range(rows):
            total += cell_R[r]
        gradient.bias_O[o] += total
    add_outer(x_IR, g_OR, gradient.linear_IO, rows)
    add_outer(hidden_HR, g_OR, gradient.out_HO, rows)
    add_outer(x_IR, to_hidden_HR, gradient.hidden_IH, rows)
    add_outer(context_CR, to_hidden_HR, gradient.context_CH, rows)
