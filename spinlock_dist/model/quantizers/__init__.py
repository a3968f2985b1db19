"""Quantizers behind one interface. A new one is a module here with a `Quantizer`, and a line in `config.QUANTIZERS`."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from spinlock_dist.config import QUANTIZERS, QuantizerConfig
from spinlock_dist.model.quantizers.base import Quantized, Quantizer

__all__ = ["QUANTIZERS", "Quantized", "Quantizer", "build_quantizer"]


def build_quantizer(dims_MG: Tensor, codes_MGS: Tensor, config: QuantizerConfig) -> Quantizer:
    """The quantizer `config.kind` with these sizes for every member and group."""
    return cast(Quantizer, QUANTIZERS[config.kind](dims_MG, codes_MGS, config))
