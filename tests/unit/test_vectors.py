"""The vector instructions of compiled products against numpy, at sizes that fill no register."""

from __future__ import annotations

import numpy as np
import pytest

from spinlock_dist.compiled.build import entry_point
from spinlock_dist.compiled.products import add_mapped, add_mapped_back, add_outer
from spinlock_dist.compiled.vectors import LANES, largest, nearness

SIZES = [(1, 1, 1), (5, 3, 7), (12, 15, 61), (7, 32, 64), (33, 6, 100), (0, 4, 9), (4, 9, 5 * LANES + 3)]
BEYOND = 3
"""Rows that are there and not in use."""


@entry_point
def products(weights_IO, x_IR, g_OR, rows):
    out_OR, back_IR, outer_IO = np.ones_like(g_OR), np.ones_like(x_IR), np.ones_like(weights_IO)
    add_mapped(weights_IO, x_IR, out_OR, rows)
    add_mapped_back(weights_IO, g_OR, back_IR, rows)
    add_outer(x_IR, g_OR, outer_IO, rows)
    return out_OR, back_IR, outer_IO


@entry_point
def found(x_1R, others_CR, values_WK, rows, count):
    near_C, places_C = np.zeros(len(others_CR), np.float32), np.full(count, -1)
    nearness(x_1R, others_CR, near_C, len(others_CR))
    largest(values_WK, rows, places_C, count)
    return near_C, places_C


@pytest.mark.parametrize(("inputs", "outputs", "rows"), SIZES)
def test_products_add_to_the_rows_in_use_and_no_others(inputs: int, outputs: int, rows: int) -> None:
    rng = np.random.default_rng(inputs)
    w, x, g = (
        rng.normal(size=size).astype(np.float32)
        for size in ((inputs, outputs), (inputs, rows + BEYOND), (outputs, rows + BEYOND))
    )
    out, back, outer = products(w, x, g, rows)
    used = slice(0, rows)
    np.testing.assert_allclose(out[:, used], 1 + w.T @ x[:, used], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(back[:, used], 1 + w @ g[:, used], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outer, 1 + x[:, used] @ g[:, used].T, rtol=1e-4, atol=1e-4)
    assert (out[:, rows:] == 1).all() and (back[:, rows:] == 1).all()


@pytest.mark.parametrize("others", [1, 3, 8, 21])
def test_nearness_is_minus_the_squared_distance_and_largest_sorts(others: int) -> None:
    rng = np.random.default_rng(others)
    x, y = (rng.normal(size=(count, 2 * LANES)).astype(np.float32) for count in (1, others))
    values = rng.normal(size=(4, 2 * LANES)).astype(np.float32)
    near, places = found(x, y, values, 3, 9)
    np.testing.assert_allclose(near, -np.square(y - x).sum(axis=1), rtol=1e-4)
    assert places.tolist() == np.argsort(-values[:3].ravel())[:9].tolist()


def test_largest_finds_each_of_equal_numbers_once_and_then_the_first_place() -> None:
    values = np.full((1, LANES), 2, np.float32)
    values[0, 1] = 5
    zeros = np.zeros((1, LANES), np.float32)
    _, places = found(zeros, zeros, values, 1, 4)
    assert places.tolist() == [1, 0, 0, 0]
    _, places = found(zeros, zeros, np.full((1, LANES), np.nan, np.float32), 1, 2)
    assert places.tolist() == [0, 0]
