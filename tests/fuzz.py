"""How many inputs the readers are fuzzed with: `FUZZ=2000 make test ARGS="-k any_"` tries more than is usual."""

from __future__ import annotations

import os


def inputs(usual: int) -> int:
    """Return the number asked for in `FUZZ`, else the usual one."""
    return int(os.environ.get("FUZZ", usual))
