"""What a study needs to know of a sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optuna.samplers import BaseSampler

from study.samplers.prior import Prior


@dataclass(frozen=True, kw_only=True)
class SamplerKind:
    """A kind of sampler: how one is made, and what it can do."""

    make: Callable[[int], BaseSampler]
    """From a seed."""
    heeds_guards: bool = True
    """Whether constraints steer it. Trials that break a guard are never the best, whatever suggested them."""
    stateless: bool = True
    """Whether all it knows is in the study's storage: then every trial gets a sampler and a seed of its own, and a
    resumed or deterministic study goes on as if nothing had happened."""
    single_objective: bool = True
    """Whether it is of use where one number is minimized."""
    several_objectives: bool = True
    """Whether it is of use where several numbers are minimized."""
    bounded: bool = False
    """Whether it learns from a part of a long history, because a suggestion would take ever longer."""
    make_informed: Callable[[int, bool, Prior | None], BaseSampler] | None = None
    """From a seed, whether it may have regard to what trials took, which no two runs of a deterministic study have in
    common, and what is known of settings beforehand; absent if `make` has no regard to either."""
