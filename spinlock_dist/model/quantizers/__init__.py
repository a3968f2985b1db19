"""Quantizers behind one face: `build_quantizer` returns the configured one."""

from __future__ import annotations

from torch import Tensor

from spinlock_dist.config import QuantizerConfig
from spinlock_dist.model.quantizers.base import Quantized, Quantizer
from spinlock_dist.model.quantizers.ema import EMAQuantizer
from spinlock_dist.model.quantizers.fsq import FSQ

__all__ = ["FSQ", "QUANTIZERS", "EMAQuantizer", "Quantized", "Quantizer", "build_quantizer"]

QUANTIZERS: dict[str, type[Quantizer]] = {"ema": EMAQuantizer, "fsq": FSQ}


def build_quantizer(dims_MG: Tensor, codes_MGS: Tensor, config: QuantizerConfig) -> Quantizer:
    """Return the quantizer `config.kind` with these sizes for every member and group."""
    return QUANTIZERS[config.kind](dims_MG, codes_MGS, config)
