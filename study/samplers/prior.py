"""What a sampler can be told of settings before a study has trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution


class Prior(Protocol):
    """What is known of settings before a study has trials, for instance how good they were on other data."""

    distributions: dict[str, BaseDistribution]
    """The parameters of the study that it knows."""

    def first(self, rng: np.random.Generator, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Settings to begin with, other than those that were tried."""
        ...

    def scores(self, settings: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """How good each is expected to be `[M]`, lower is better, in standard deviations over the space."""
        ...
