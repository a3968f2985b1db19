from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.seeding import derive_seed

seeds = st.integers(0, 2**32)
names = st.text(max_size=20)


@given(seeds, names)
def test_fits_torch_and_numpy(seed: int, name: str) -> None:
    assert 0 <= derive_seed(seed, name) < 2**63


@given(seeds, names, names)
def test_streams_differ_by_name(seed: int, one: str, other: str) -> None:
    assert (derive_seed(seed, one) == derive_seed(seed, other)) == (one == other)


@given(seeds, seeds)
def test_streams_differ_by_seed(one: int, other: int) -> None:
    assert (derive_seed(one, "split") == derive_seed(other, "split")) == (one == other)


def test_streams_differ_by_every_part_of_the_name() -> None:
    assert len({derive_seed(0), derive_seed(0, "block"), derive_seed(0, "block", 0), derive_seed(0, "block", 1)}) == 4


def test_the_same_in_every_process() -> None:
    code = "from spinlock_dist.seeding import derive_seed; print(derive_seed(3, 'kmeans', 1))"
    for salt in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
        assert int(printed) == derive_seed(3, "kmeans", 1)
