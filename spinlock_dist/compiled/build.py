"""How functions are compiled, and where the result is kept: once per machine type and version of this package.

Numba compiles a function when it is first called with new types. Every entry point here is called with the same types
always, so that it is compiled once, written to disk, and loaded in a fraction of a second from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from spinlock_dist.compiled.cache import cache_folder

F = TypeVar("F", bound=Callable[..., Any])

FAST_MATH = {"reassoc", "contract", "arcp", "nsz", "afn"}
"""Sums may be reordered and products fused. Not `nnan` and `ninf`: a loss that overflows has to stay what it is."""
OPTIONS: dict[str, Any] = {"fastmath": FAST_MATH, "nogil": True, "error_model": "numpy", "boundscheck": False}

numba.config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]
_njit: Any = numba.njit  # its annotations know only some of its options


def entry_point(function: F) -> F:
    """Compile a function that Python calls, and keep the result on disk."""
    compiled: F = _njit(cache=True, **OPTIONS)(function)
    return compiled


def inner(function: F) -> F:
    """Compile a function that only compiled ones call; it becomes part of them."""
    compiled: F = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)
    return compiled


def inlined(function: F) -> F:
    """As `inner`, for what is called so often that handing over its arguments would take longer than the work."""
    compiled: F = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True, **OPTIONS)(function)
    return compiled


@_njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def is_finite(value):
    """Whether a number is finite. Strict arithmetic, as `all_finite`."""
    return np.isfinite(value)


@_njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def all_finite(values):
    """Whether no value is infinite or not a number. Strict arithmetic: where sums may be reordered, x - x is 0."""
    return np.isfinite(values).all()
