"""Codebook usage, from how often each code was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CodebookUsage:
    """Usage of one codebook of K codes on some rows."""

    codes: int
    used: int
    perplexity: float
    """exp of the entropy of the code frequencies, 1 to K."""
    rows: int

    @property
    def utilization(self) -> float:
        """Codes used at least once / K."""
        return self.used / self.codes

    @property
    def utilization_of_possible(self) -> float:
        """Codes used at least once / min(K, rows): few rows cannot use many codes."""
        return self.used / min(self.codes, self.rows)

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity / K."""
        return self.perplexity / self.codes

    @property
    def bits_carried(self) -> float:
        """The entropy of the code frequencies, in bits: what a token of these rows carries at most, 0 to log2 K."""
        return float(np.log2(self.perplexity))

    @property
    def entropy_ratio(self) -> float:
        """Entropy / log2 K."""
        return float(np.log(self.perplexity) / np.log(self.codes))


def codebook_usage(counts_K: np.ndarray) -> CodebookUsage:
    """The usage behind counts `[K]` of how often each code was chosen."""
    rows = int(counts_K.sum())
    shares = counts_K[counts_K > 0] / rows
    perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
    return CodebookUsage(codes=len(counts_K), used=int((counts_K > 0).sum()), perplexity=perplexity, rows=rows)


def mean_over_codebooks(values: Sequence[float]) -> float:
    """The mean; 1 if there is no codebook, since then no code is wasted."""
    return float(np.mean(values)) if values else 1.0
