"""Additive codes: beam search finds what it should, and the refit of all codebooks is the least-squares one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.baselines.additive import (
    AdditiveCodec,
    normal_equations,
    refit,
    residual_codebooks,
    search,
    search_in_torch,
)
from spinlock_dist.baselines.joint_least_squares import JointLeastSquares, alternate
from spinlock_dist.baselines.residual_kmeans import ResidualKMeans
from spinlock_dist.compiled.additive import normal_equations as compiled_normal_equations

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)
SEEDS = st.integers(0, 1000)


def drawn(seed: int, sizes: list[int], rows: int = 60, features: int = 5) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows with heavy tails, and codebooks from coarse to fine."""
    rng = np.random.default_rng(seed)
    codebooks = [rng.normal(size=(codes, features)) / (1 + place) for place, codes in enumerate(sizes)]
    return rng.standard_t(3, size=(rows, features)).astype(np.float32), [each.astype(np.float32) for each in codebooks]


def error(x_NF: np.ndarray, codebooks: list[np.ndarray] | tuple[np.ndarray, ...], tokens_NS: np.ndarray) -> float:
    return float(np.square(x_NF - AdditiveCodec(tuple(codebooks), 1).decode(tokens_NS), dtype=np.float64).sum())


def greedy(x_NF: np.ndarray, codebooks: list[np.ndarray]) -> np.ndarray:
    left, tokens = x_NF.astype(np.float64), []
    for codes_KF in codebooks:
        tokens.append(np.square(left[:, None] - codes_KF).sum(axis=2).argmin(axis=1))
        left = left - codes_KF[tokens[-1]]
    return np.stack(tokens, axis=1)


@given(SEEDS, SIZES, st.integers(1, 13))
@settings(deadline=None)
def test_one_beam_is_greedy(seed: int, sizes: list[int], features: int) -> None:
    x, codebooks = drawn(seed, sizes, features=features)
    found = search(codebooks, x, beam=1)
    assert error(x, codebooks, found) == pytest.approx(error(x, codebooks, greedy(x, codebooks)), rel=1e-5)


@given(SEEDS, SIZES)
@settings(deadline=None)
def test_as_many_beams_as_choices_find_the_best(seed: int, sizes: list[int]) -> None:
    x, codebooks = drawn(seed, sizes, rows=20)
    tokens = np.array(list(product(*map(range, sizes))))
    sums = AdditiveCodec(tuple(codebooks), 1).decode(tokens)
    least = np.square(x[:, None] - sums, dtype=np.float64).sum(axis=2).min(axis=1).sum()
    assert error(x, codebooks, search(codebooks, x, len(tokens))) == pytest.approx(least, rel=1e-5)


@given(SEEDS, SIZES, st.integers(1, 6))
@settings(deadline=None)
def test_torch_searches_as_compiled_code_does(seed: int, sizes: list[int], beam: int) -> None:
    x, codebooks = drawn(seed, sizes)
    reference = search_in_torch([torch.from_numpy(each) for each in codebooks], torch.from_numpy(x), beam).numpy()
    found = search(codebooks, x, beam)
    assert found.shape == reference.shape and found.dtype == np.int64
    assert error(x, codebooks, found) == pytest.approx(error(x, codebooks, reference), rel=1e-5)


def test_wider_beams_leave_less() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 8)) @ rng.normal(size=(8, 8))
    codebooks = residual_codebooks(x, [16, 12, 8], 10, torch.Generator().manual_seed(0))
    narrow, *wider = [error(x, codebooks, search(codebooks, x, beam)) for beam in (1, 2, 4, 8)]
    assert sorted(wider, reverse=True) == wider and wider[0] < 0.99 * narrow


@given(SEEDS, SIZES, st.floats(0.01, 100))
@settings(deadline=None)
def test_a_refit_never_raises_the_error_of_its_rows(seed: int, sizes: list[int], ridge: float) -> None:
    x, codebooks = drawn(seed, sizes)
    tokens = search(codebooks, x, beam=2)
    assert error(x, refit(codebooks, x, tokens, ridge), tokens) <= error(x, codebooks, tokens) * (1 + 1e-6)


def test_a_refit_is_the_least_squares_fit_where_it_is_held_by_little() -> None:
    x, codebooks = drawn(0, [4, 3], rows=200)
    tokens = search(codebooks, x, beam=2)
    one_hot = np.concatenate([np.eye(4)[tokens[:, 0]], np.eye(3)[tokens[:, 1]]], axis=1)
    solution, *_ = np.linalg.lstsq(one_hot, x.astype(np.float64))
    least = np.square(x - one_hot @ solution).sum()
    assert error(x, refit(codebooks, x, tokens, ridge=1e-6), tokens) == pytest.approx(least, rel=1e-6)


def test_a_code_without_rows_stays_and_one_with_few_moves_little() -> None:
    x, [codes] = drawn(0, [3], rows=40)
    tokens = np.zeros((40, 1), dtype=np.int64)
    tokens[0] = 1
    [moved] = refit([codes], x, tokens, ridge=3.0)
    assert moved[2] == pytest.approx(codes[2])
    assert moved[1] == pytest.approx((x[0] + 3 * codes[1]) / 4, rel=1e-5)
    assert moved[0] == pytest.approx((x[1:].sum(axis=0) + 3 * codes[0]) / 42, rel=1e-5)


@given(SEEDS, SIZES)
@settings(deadline=None)
def test_numpy_and_compiled_code_give_the_same_normal_equations(seed: int, sizes: list[int]) -> None:
    x, codebooks = drawn(seed, sizes)
    tokens = search(codebooks, x, beam=2)
    reference, compiled = (each(x, tokens, np.array(sizes)) for each in (normal_equations, compiled_normal_equations))
    assert np.array_equal(reference[0], compiled[0]) and compiled[1] == pytest.approx(reference[1], abs=1e-9)


def test_joint_least_squares_leaves_less_than_residual_kmeans_on_fresh_rows() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 12))
    train, fresh = (rng.normal(size=(1000, 4)) @ mixing for _ in range(2))
    codes = np.array([32, 16, 8])
    joint, residual = (
        kind.fit(train, codes, torch.Generator().manual_seed(0), beam=4) for kind in (JointLeastSquares, ResidualKMeans)
    )
    assert joint.codes == residual.codes == (32, 16, 8)
    errors = [error(fresh, each.codebooks, each.encode(fresh)) for each in (joint, residual)]
    assert errors[0] < 0.9 * errors[1]


def test_alternation_lowers_the_error_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6))
    start = residual_codebooks(x, [8, 8, 8], 10, torch.Generator().manual_seed(0))
    rounds = [alternate(start, x, 4, rounds) for rounds in (0, 1, 2, 5)]
    errors = [error(x, each, search(each, x, 4)) for each in rounds]
    assert sorted(errors, reverse=True) == errors


def test_without_numba_it_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinlock_dist.baselines.additive.CELLS", 300)
    x, codebooks = drawn(0, [9, 5])
    expected, fitted = search(codebooks, x, 3), refit(codebooks, x, search(codebooks, x, 3), 1.0)
    monkeypatch.setattr("spinlock_dist.compiled.missing", lambda: "numba is not installed")
    assert np.array_equal(search(codebooks, x, 3), expected)
    assert search(codebooks, x[:0], 3).shape == (0, 2)
    for ours, theirs in zip(refit(codebooks, x, expected, 1.0), fitted, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
