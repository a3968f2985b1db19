"""Compiled loops for the processor: numba functions on arrays that know neither torch nor configs.

Importing this package costs nothing; importing one of its modules imports numba. `missing` says why that cannot be.
"""

from __future__ import annotations

from importlib.util import find_spec


def missing() -> str | None:
    """Why compiled functions cannot be used here; None where they can."""
    return None if find_spec("numba") else "numba is not installed"
