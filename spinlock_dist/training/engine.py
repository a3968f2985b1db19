"""Which code trains: compiled loops, category by category, on a processor; torch for everything else."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spinlock_dist import compiled
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError


def lacking(config: TrialConfig, device: torch.device) -> str | None:
    """What of a config the compiled training has not, in words; None if it has everything.

    Its losses do not reach from one category to another, and its quantizers learn codebooks.
    """
    reasons = {
        f"training on {device.type}": device.type != "cpu",
        f"quantizer.kind {config.quantizer.kind}": config.quantizer.kind != "ema",
        f"model.decoder {config.model.decoder}": config.model.decoder == "shared",
        "loss.orthogonality": config.loss.orthogonality > 0,
        "loss.topographic": config.loss.topographic > 0,
        "loss.reconstruction_balance worst": config.loss.reconstruction_balance == "worst",
    }
    return next((reason for reason, applies in reasons.items() if applies), None) or compiled.missing()


def choose_engine(configs: Sequence[TrialConfig], device: torch.device) -> str:
    """`compiled` or `torch`, for configs that are trained together.

    Raises `ConfigError` if `training.engine` asks for the compiled one where that cannot be had.
    """
    asked = configs[0].training.engine
    if asked == "torch":
        return asked
    reason = next((reason for config in configs if (reason := lacking(config, device)) is not None), None)
    if reason is None:
        return "compiled"
    if asked == "compiled":
        raise ConfigError(f"training.engine compiled: it has no {reason}; use auto or torch")
    return "torch"
