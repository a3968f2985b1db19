"""The learning rate over a training."""

from __future__ import annotations

import numpy as np
import pytest

from spinlock_dist.config import TrainingConfig
from spinlock_dist.training.schedule import rate_factor


def factors(steps: int, **settings: object) -> np.ndarray:
    config = TrainingConfig(**settings)
    return np.array([rate_factor(config, step, steps) for step in range(steps)])


def test_constant_is_constant() -> None:
    assert (factors(10, schedule="constant") == 1).all()


def test_linear_goes_to_zero_in_equal_steps_and_never_reaches_it() -> None:
    found = factors(10, schedule="linear")
    np.testing.assert_allclose(found, np.arange(0.95, 0, -0.1))


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_wsd_is_constant_and_then_linear(share: float) -> None:
    found = factors(100, schedule="wsd", decay_share=share)
    stable = round(100 * (1 - share))
    assert (found[:stable] == 1).all()
    np.testing.assert_allclose(np.diff(found[stable:]), -1 / (100 * share))
    assert 0 < found[-1] < 1 / (100 * share)


def test_wsd_that_decays_all_along_is_linear() -> None:
    np.testing.assert_allclose(factors(7, schedule="wsd", decay_share=1), factors(7, schedule="linear"))
