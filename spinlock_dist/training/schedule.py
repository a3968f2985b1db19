"""The learning rate over a training, as a share of `training.learning_rate`."""

from __future__ import annotations

from collections.abc import Callable

from spinlock_dist.config import TrainingConfig


def _constant(progress: float, decay_share: float) -> float:
    return 1.0


def _linear(progress: float, decay_share: float) -> float:
    return 1 - progress


def _wsd(progress: float, decay_share: float) -> float:
    return min(1.0, (1 - progress) / decay_share)


_SCHEDULES: dict[str, Callable[[float, float], float]] = {"constant": _constant, "linear": _linear, "wsd": _wsd}


def rate_factor(config: TrainingConfig, step: int, steps: int) -> float:
    """Factor of the learning rate at `step` of `steps`, counted from 0.

    It is that of the middle of the step: a schedule that decays to zero takes its last step at half of what the
    one before it differs from the one before that, never at zero.
    """
    return _SCHEDULES[config.schedule]((step + 0.5) / steps, config.decay_share)
