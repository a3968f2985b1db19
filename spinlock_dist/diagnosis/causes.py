"""Why a category is rebuilt as it is: rules on the numbers, each giving a sentence made of them or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import floor, log10
from statistics import median

from spinlock_dist.diagnosis.record import CategoryDiagnosis, Diagnosis, FeatureDiagnosis
from spinlock_dist.metrics.raw_imbalance import RawImbalance
from spinlock_dist.metrics.reconstruction import COLLAPSED_FVU, RAW_FLOOR

DEAD_SHARE = 0.1
"""Share of a category's codes never chosen; the guard of a study asks for a utilization of 0.9."""
EVEN_USE = 0.8
"""Bits that the codes carry / bits they could; below this the codes are used unevenly."""
FEW_BITS = 1.25
"""Reference FVU over the median category's: above this the bits are few for what the category holds."""
FAR_FROM_REFERENCE = 2.0
"""FVU over the reference. Trained quantizers lie at 1.2 (wide categories) to 2 (5 features)."""
NEGLIGIBLE = 0.01
"""FVU up to this is not worth a cause: next to it any distance is large."""
HEAVY_KURTOSIS = 10.0
"""A normal has 3, a Laplace distribution 6."""
HEAVY_ERROR = 0.25
"""Share of a category's error that features with heavy tails must hold to be named."""
RAW_SHARE, RAW_FACTOR = 0.1, 10.0
"""Share of the summed raw error, and its ratio to the median category's, from which scale is worth a sentence."""
MOST_RAW_ERROR = 0.9

Rule = Callable[[CategoryDiagnosis, Diagnosis], str | None]


def causes(category: CategoryDiagnosis, diagnosis: Diagnosis) -> list[str]:
    """What the rules find in a category, as clauses to follow its name; one that says so if that is nothing."""
    found = [sentence for rule in RULES if (sentence := rule(category, diagnosis)) is not None]
    return found or [
        f"shows no fault: FVU {category.fvu:.3f} is {category.distance:.1f} times the Gaussian reference "
        f"at its {category.bits:.1f} bits"
    ]


def collapsed(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str | None:
    """Its reconstruction is no better than the mean."""
    if category.fvu < COLLAPSED_FVU:
        return None
    return f"has collapsed: FVU {category.fvu:.3f}, no better than predicting the mean"


def dead_codes(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str | None:
    """Many of its codes are never chosen."""
    if sum(book.dead for book in category.codebooks) <= DEAD_SHARE * sum(book.codes for book in category.codebooks):
        return None
    levels = ", ".join(f"{book.used} of {book.codes} codes in {book.level}" for book in category.codebooks if book.dead)
    return f"leaves codes dead: it uses {levels}"


def uneven_codes(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str | None:
    """A few of its codes stand for most rows, so that its tokens carry fewer bits than they cost."""
    if category.bits_carried >= EVEN_USE * category.bits:
        return None
    levels = ", ".join(f"{book.perplexity:.1f} of {book.codes} in {book.level}" for book in category.codebooks)
    return (
        f"uses its codes unevenly: they carry {category.bits_carried:.1f} of the {category.bits:.1f} bits they cost "
        f"(perplexity {levels})"
    )


def few_bits(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str | None:
    """Even the Gaussian reference would leave much more of it than of the median category."""
    typical = median(each.reference_fvu for each in diagnosis.categories)
    if category.reference_fvu <= FEW_BITS * typical or category.fvu <= diagnosis.fvu_mean:
        return None
    return (
        f"has few bits for what it holds: {category.bits:.1f} for {_count(category.features)}, "
        f"{category.bits_per_feature:.2f} bits per feature against a mean of {diagnosis.bits_per_feature:.2f}; "
        f"the Gaussian reference leaves FVU {category.reference_fvu:.3f} there, {typical:.3f} in the median category"
    )


def far_from_reference(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str | None:
    """It loses much more than its bits explain."""
    if category.distance <= FAR_FROM_REFERENCE or category.fvu <= NEGLIGIBLE:
        return None
    return (
        f"is far from what its bits can do: FVU {category.fvu:.3f} is {category.distance:.1f} times the Gaussian "
        f"reference at {category.bits:.1f} bits ({category.reference_fvu:.3f})"
    )


def heavy_tails(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str | None:
    """Features with heavy tails hold much of its error."""
    heavy = [feature for feature in category.features if feature.kurtosis > HEAVY_KURTOSIS]
    share = sum(feature.error_share for feature in heavy)
    if not heavy or share < HEAVY_ERROR:
        return None
    most = max(heavy, key=lambda feature: feature.kurtosis)
    return (
        f"has heavy tails: {share:.0%} of its error lies in {_families(heavy)} with kurtosis above "
        f"{HEAVY_KURTOSIS:.0f}; the heaviest is {most.feature} ({most.kurtosis:.0f}, {most.outliers:.1%} far out)"
    )


def large_scale(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str | None:
    """Its raw error is large because its features are."""
    typical = sorted(diagnosis.categories, key=lambda each: each.mse_raw)[(len(diagnosis.categories) - 1) // 2]
    if category.raw_share < RAW_SHARE or not category.mse_raw > RAW_FACTOR * typical.mse_raw:
        return None
    if category.variance_raw / max(typical.variance_raw, RAW_FLOOR) < category.fvu_raw / typical.fvu_raw:
        return None
    few = _most_raw_error(category)
    return (
        f"is large in scale: {MOST_RAW_ERROR:.0%} of its raw error lies in {_families(few)} with std from "
        f"{_round_down(min(each.std for each in few)):g} up, and it has {category.raw_share:.1%} of the raw error "
        f"of all categories{_share_of_imbalance(category, diagnosis)}"
    )


def raw_imbalance(diagnosis: Diagnosis) -> str:
    """The split of the raw imbalance in a sentence."""
    raw = diagnosis.raw
    if raw.log10_imbalance == 0:
        return "the raw errors of all categories are equal"
    return (
        f"raw imbalance {_power(raw.log10_imbalance)} ({raw.worst} over {raw.best}) = scale {_power(raw.log10_scale)} "
        f"x FVU {_power(raw.log10_fvu)}: {_scale_share(raw)}"
    )


def changed_data(diagnosis: Diagnosis) -> str | None:
    """A warning if rows were picked by a split that need not be the one of the training."""
    if diagnosis.is_training_data or diagnosis.rows == "all":
        return None
    return (
        f"{diagnosis.source} is not the data of the training (its fingerprint differs): "
        f"some of the {diagnosis.rows} rows may have been trained on"
    )


RULES: tuple[Rule, ...] = (collapsed, dead_codes, uneven_codes, few_bits, far_from_reference, heavy_tails, large_scale)


def _share_of_imbalance(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str:
    return f"; {_scale_share(diagnosis.raw)}" if category.name == diagnosis.raw.worst else ""


def _scale_share(raw: RawImbalance) -> str:
    if raw.scale_share > 1:
        return "scale explains more than all of the raw imbalance, for FVU works against it"
    if raw.scale_share < 0:
        return "FVU explains more than all of the raw imbalance, for scale works against it"
    return f"{raw.scale_share:.1%} of the raw imbalance is scale"


def _most_raw_error(category: CategoryDiagnosis) -> list[FeatureDiagnosis]:
    """The fewest features that carry `MOST_RAW_ERROR` of the category's raw error."""
    left = MOST_RAW_ERROR * sum(feature.mse_raw for feature in category.features)
    few: list[FeatureDiagnosis] = []
    for feature in sorted(category.features, key=lambda each: -each.mse_raw):
        if left <= 0:
            break
        few.append(feature)
        left -= feature.mse_raw
    return few


def _count(features: Sequence[FeatureDiagnosis]) -> str:
    return f"{len(features)} feature{'' if len(features) == 1 else 's'}"


def _families(features: Sequence[FeatureDiagnosis]) -> str:
    """E.g. "9 temporal features" or "9 features (7 temporal, 2 summary)"."""
    counts = Counter(feature.family for feature in features).most_common()
    if len(counts) == 1:
        return _count(features).replace(" ", f" {counts[0][0]} ", 1)
    return f"{_count(features)} ({', '.join(f'{count} {family}' for family, count in counts)})"


def _round_down(value: float) -> float:
    """A positive number cut to two significant digits: "from 60 up" stays true."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (floor(log10(value)) - 1)
    return float(f"{floor(value / step) * step:.2g}")


def _power(log10_ratio: float) -> str:
    """A ratio given by its logarithm, e.g. 3.6 or 4.2e+06."""
    return f"{10**log10_ratio:.3g}"
