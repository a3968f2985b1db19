"""The bounds of fuzzing: they end what hangs and see what takes memory, so a fuzz test that passes says something."""

from __future__ import annotations

import resource
import time

import pytest

from tests.fuzz import TooSlow, bounds


def hang() -> None:
    while True:
        try:
            time.sleep(5)
        except Exception:
            continue


def take_and_give_back() -> None:
    taken = b"x" * (100 * 2**20)
    del taken


def test_what_hangs_is_ended_even_where_every_exception_is_caught() -> None:
    with pytest.raises(TooSlow), bounds(seconds=0.2):
        hang()


def test_memory_is_measured_though_it_was_given_back() -> None:
    with pytest.raises(AssertionError, match="GiB"), bounds(memory=50 * 2**20):
        take_and_give_back()


def test_what_came_before_is_not_counted_and_no_limit_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = b"x" * (100 * 2**20)
    with bounds(memory=50 * 2**20):
        assert taken[0] == ord("x")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
