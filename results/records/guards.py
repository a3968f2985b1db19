"""How far a guard is overstepped, in words.

`study.search.constraints` measures two kinds. A ratio's excess is value / limit - 1, a difference's the distance from
the limit itself. Only of the first can it be said that a value is 1.08 times its limit.
"""

from __future__ import annotations

from collections.abc import Mapping

RATIOS = ("fvu_worst", "fvu_worst_limit", "fvu_mean")
DIFFERENCES = {
    "bits": "beyond its tolerance",
    "utilization": "below its limit",
    "perplexity": "below its limit",
}
"""Guards measured as a difference, and on which side of what it lies."""


def excess_in_words(guards: Mapping[str, float]) -> str:
    """The guards that are broken and how far, e.g. `fvu_worst (4.0% above its limit), utilization (0.030 below ...)`.

    Empty if all are kept.
    """
    return ", ".join(f"{name} ({_excess(name, value)})" for name, value in guards.items() if value > 0)


def _excess(name: str, value: float) -> str:
    return f"{value:.3f} {DIFFERENCES[name]}" if name in DIFFERENCES else f"{value:.1%} above its limit"
