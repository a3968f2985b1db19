"""Samplers by name. A new one is a `SamplerKind` in a module and one line here; others come by dotted name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spinlock_dist.registry import Registry

if TYPE_CHECKING:
    from study.samplers.kind import SamplerKind

SAMPLERS: Registry[SamplerKind] = Registry(
    "sampler",
    {
        "tpe": "study.samplers.optuna_samplers:TPE",
        "gp": "study.samplers.optuna_samplers:GP",
        "nsga2": "study.samplers.optuna_samplers:NSGA2",
        "random": "study.samplers.optuna_samplers:RANDOM",
        "qmc": "study.samplers.optuna_samplers:QMC",
    },
)


def is_dotted(name: str) -> bool:
    """Whether a name is that of code elsewhere: `package.Class` or `package.module:factory`."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*", name) is not None


def check_name(name: str) -> str:
    """Return the name of a sampler. Raises `ConfigError` if it is neither registered nor dotted."""
    return name if is_dotted(name) else SAMPLERS.check(name)
