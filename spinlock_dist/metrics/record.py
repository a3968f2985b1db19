"""Every number that training reports, named once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with the bias of few rows taken off, and its 95% interval over rows."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Reconstruction and codebook metrics on one split. Exact definitions: docs/metrics.md.

    `fvu`: fraction of variance unexplained, 0 perfect, 1 = predicting the training mean. Lists of categories are in
    the order of the prepared categories; `codebooks` lists every codebook that is switched on.
    """

    split: str
    fvu: dict[str, float]
    """Per category: squared error / squares about the training mean, both in normalized space."""
    mse_raw: dict[str, float]
    """Per category: mean over its features of the squared error in raw units."""
    fvu_mean: float
    """Mean over features: all squared errors / all squares about the training mean."""
    fvu_worst: float
    worst_category: str
    imbalance: float
    """max fvu / max(min fvu, 1e-6)."""
    log10_imbalance: float
    imbalance_by_chance: float
    """Median imbalance that resampled rows would show if all categories were equally well reconstructed."""
    imbalance_raw: float
    """The same ratio on `mse_raw`."""
    gini: float
    """Gini coefficient of `fvu` over categories, 0 equal."""
    collapsed: int
    """Categories with fvu >= 0.98."""
    utilization: float
    """Mean over codebooks of codes used at least once on the training rows / K."""
    utilization_split: float
    """The same on this split's rows, with denominator min(K, rows)."""
    perplexity_ratio: float
    """Mean over codebooks of perplexity / K on the training rows."""
    entropy_ratio: float
    """Mean over codebooks of entropy / log2 K on the training rows."""
    dead_codes: int
    """Codes never used on the training rows, all codebooks together; of several folds their mean, rounded up."""
    bits_per_sample: float
    """Sum over codebooks of log2 K: what a row's tokens cost."""
    reference_fvu: dict[str, float]
    """Per category: FVU that the Gaussian reference leaves at the category's bits (`compression.rate_distortion`)."""
    reference_imbalance: float
    """The imbalance of `reference_fvu`: what the allocation alone leads one to expect."""
    reference_distance: float
    """Geometric mean over categories of fvu / reference fvu: 1 at the reference, which non-Gaussian data can beat."""
    bits_carried_per_sample: float | None = None
    """Sum over codebooks of the entropy of their codes on this split's rows, in bits: what the tokens carry at most. An
    earlier version did not measure it."""
    bits: dict[str, float] = field(default_factory=dict)
    """`bits_per_sample` by category."""
    bits_carried: dict[str, float] = field(default_factory=dict)
    """`bits_carried_per_sample` by category."""
    estimates: dict[str, Estimate] = field(default_factory=dict)
    """`imbalance`, `fvu_worst`, `fvu_mean` and `spread` as they would be on ever more rows of the kind."""
    resampled: dict[str, list[float]] = field(default_factory=dict)
    """Natural log of the same figures in each resample of the rows; of the same rows paired from record to record."""
    topographic_pre: float | None = None
    """Correlation between pairwise distances in features and in latents before quantization; a codec has none."""
    topographic_post: float | None = None
    """The same after quantization."""
    codebooks: list[dict[str, Any]] = field(default_factory=list)
    """One dict a codebook: category, level, dim, codes, used, perplexity; of several folds those of the first."""
    extra: dict[str, float] = field(default_factory=dict)
    """What further entries of `METRICS` gave, by name."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Metrics:
        """The metrics stored as `content`; those of an earlier version have no estimates."""
        estimates = {name: Estimate(**each) for name, each in content.get("estimates", {}).items()}
        return cls(**{**content, "estimates": estimates})

    def to_json(self) -> dict[str, Any]:
        """The metrics as plain data, which shares its parts with them."""
        return vars(self) | {"estimates": {name: vars(each) for name, each in self.estimates.items()}}

    @property
    def carried_share(self) -> float | None:
        """Bits carried / bits paid; None where an earlier version did not measure it."""
        carried, paid = self.bits_carried_per_sample, self.bits_per_sample
        return carried / paid if carried is not None and paid > 0 else None

    def carried_in_words(self) -> str:
        """E.g. `205.4 of 242.0 bits carried`; where an earlier version did not measure that, `242.0 bits`."""
        if self.bits_carried_per_sample is None:
            return f"{self.bits_per_sample:.1f} bits"
        return f"{self.bits_carried_per_sample:.1f} of {self.bits_per_sample:.1f} bits carried"

    def estimate(self, name: str) -> float:
        """The estimate of `imbalance`, `fvu_worst` or `fvu_mean`; as measured where an earlier version made none."""
        return self.estimates[name].value if name in self.estimates else float(getattr(self, name))

    def __repr__(self) -> str:
        figures = {"imbalance": "imbalance", "fvu_worst": "worst", "fvu_mean": "mean"}
        told = ", ".join(f"{words} {self.in_words(name)}" for name, words in figures.items())
        return f"<metrics of {len(self.fvu)} categories on the {self.split} rows: {told}>"

    def in_words(self, name: str) -> str:
        """The estimate of a figure with half its interval, in per cent: `2.35x ±9%` or `0.112 ±6%`."""
        text = f"{self.estimate(name):.2f}x" if name in ("imbalance", "spread") else f"{self.estimate(name):.3f}"
        if name not in self.estimates:
            return text
        found = self.estimates[name]
        return f"{text} ±{math.sqrt(found.high / found.low) - 1:.0%}"

    def scalars(self) -> dict[str, float]:
        """The numbers that are one per split, by name."""
        return {name: value for name, value in self.__dict__.items() if isinstance(value, int | float)} | self.extra


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What training reports each time it evaluates."""

    epoch: int
    """Epochs completed, 1-based."""
    trained: int
    """The same; earlier versions counted the epochs of pilots in `epoch` alone."""
    finished: bool
    """True for the last report of the full budget (or of early stopping): no further report follows."""
    losses: dict[str, float]
    """Mean training loss terms of the epoch, unweighted, in units of FVU, and their weighted sum as `total`."""
    validation: Metrics
    folds: int = 1
    """Folds whose rows `validation` is of: several in the last report of a trial that was trained on them."""
    seconds: float
    """Wall time since the trial began, pilots and the start of the codebooks included."""
