"""Matrix products of a layer, in single precision, adding to the result.

Activations are feature-major, `[features, rows]`: rows are contiguous, so that they fill the processor's registers
whatever the number of features. Letters are those of `model/layout.py`; besides, R are the rows of a block (`rows` of
them in use), I and O the inputs and outputs of a layer.

A layer has 4 to 50 inputs and outputs. A BLAS, which first copies its operands into panels, reaches a fraction of what
these do at such sizes; loops that the compiler puts into registers half, at 64 rows (docs/speed.md).
"""

from __future__ import annotations

from spinlock_dist.compiled.build import inner
from spinlock_dist.compiled.vectors import mapped, outer


@inner
def add_mapped(weights_IO, x_IR, out_OR, rows):
    """out += weights.T @ x: what a layer gives."""
    mapped(weights_IO, x_IR, out_OR, rows)


@inner
def add_mapped_back(weights_IO, g_OR, out_IR, rows):
    """out += weights @ g: the gradient of a layer's input, given that of its output."""
    mapped(weights_IO.T, g_OR, out_IR, rows)


@inner
def add_outer(x_IR, g_OR, weights_IO, rows):
    """weights += x @ g.T: the gradient of a layer's weights."""
    outer(x_IR, g_OR, weights_IO, rows)
