"""What a diagnosis holds: every number, with its unit, once."""

from __future__ import annotations

from dataclasses import dataclass

from spinlock_dist.metrics.raw_imbalance import RawImbalance


@dataclass(frozen=True, kw_only=True)
class FeatureDiagnosis:
    """One feature. Raw units are those of the cleaned column; its statistics are of the rows that were scored."""

    feature: str
    """`family::name`."""
    family: str
    name: str
    """As the dataset calls it, or `feature_i` for output i of a family's encoder."""
    std: float
    """Standard deviation, in raw units."""
    kurtosis: float
    """Fourth standardized moment, 3 for a normal; 0 if the feature does not vary on these rows."""
    outliers: float
    """Share of values more than 3 interquartile ranges beyond the quartiles (Tukey 1977: far out)."""
    fvu: float
    error_share: float
    """Share of the category's squared error in normalized space, 0 to 1."""
    mse_raw: float
    """Mean squared error, in squared raw units."""
    imputed: int
    """Training values that were missing: cleaning put the median."""
    clipped: int
    """Training values that cleaning cut off at its percentiles."""


@dataclass(frozen=True, kw_only=True)
class CodebookDiagnosis:
    """Usage of one codebook that is switched on."""

    level: str
    dim: int
    codes: int
    used: int
    dead: int
    """Codes never chosen."""
    perplexity: float
    """exp of the entropy of the code frequencies, 1 to `codes`."""


@dataclass(frozen=True, kw_only=True)
class CategoryDiagnosis:
    """One category. `fvu` and `mse_raw` are those of the metrics (docs/metrics.md)."""

    name: str
    features: tuple[FeatureDiagnosis, ...]
    """The feature with the largest error in normalized space first."""
    families: dict[str, int]
    """Features per family, the largest family first."""
    dims: tuple[int, ...]
    """Latent dimensions per level."""
    codes: tuple[int, ...]
    """Codes per level, all its codebooks together; 1 is a level switched off."""
    bits: float
    """Bits per sample: log2 of the codes, summed over codebooks."""
    bits_carried: float
    """Entropy of the codes on the rows that were scored, summed over codebooks: what the tokens carry at most."""
    bits_per_feature: float
    fvu: float
    reference_fvu: float
    """What the Gaussian reference leaves at these bits (`compression.rate_distortion`)."""
    distance: float
    """fvu / reference_fvu, both at least 1e-6; 1 is at the reference, which data that is not Gaussian can beat."""
    mse_raw: float
    """Squared raw units."""
    variance_raw: float
    """The scale: mean over features of the squared deviation from the mean, in squared raw units."""
    fvu_raw: float
    """mse_raw / variance_raw: what is unexplained where large features count more."""
    raw_share: float
    """Share of the sum of `mse_raw` over categories, 0 to 1."""
    codebooks: tuple[CodebookDiagnosis, ...]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A trained tokenizer, category by category."""

    source: str
    """The dataset that was scored."""
    rows: str
    """Which of its rows: `train`, `validation`, `test` or `all`."""
    row_count: int
    codebook_row_count: int
    """Rows behind the codebook usage: the training rows, or all rows of a dataset it was not trained on."""
    is_training_data: bool
    """Whether the whole dataset is, by its fingerprint, the one the tokenizer was trained on."""
    fvu_mean: float
    """Over features: all squared errors / all squares about the mean."""
    imbalance: float
    """Largest / smallest fvu of a category."""
    bits_per_feature: float
    """Bits of all categories / all features."""
    raw: RawImbalance
    categories: tuple[CategoryDiagnosis, ...]
    """The category with the largest fvu first."""
