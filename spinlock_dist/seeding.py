"""Random streams derived by name from one seed, so that no two parts of a run share or disturb a stream."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under `seed`.

    A stable hash: Python's `hash(str)` is salted per process and would change the result from run to run.
    """
    label = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big") >> 1
