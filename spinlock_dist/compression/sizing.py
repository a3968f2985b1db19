"""What a ratio buys: latent dimensions, codes and bits, under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinlock_dist.compression.bounds import MAX_RATIO, allocate_ratios
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.published import published_codes
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import CompressionConfig
from spinlock_dist.errors import ConfigError

DIM_STEP = 4


@dataclass(frozen=True)
class CapacityPlan:
    """Sizes of every quantizer: `ratios`, `dims` and `codes` are `[C, L]`. A level with one code is switched off."""

    ratios: np.ndarray
    dims: np.ndarray
    codes: np.ndarray

    @property
    def bits(self) -> np.ndarray:
        """Bits per sample of each quantizer `[C, L]`: log2 of its codes."""
        return np.log2(self.codes)

    @property
    def bits_per_sample(self) -> float:
        """Bits per sample of all quantizers together."""
        return float(self.bits.sum())


def latent_dim(features: int, ratio: float) -> int:
    """Return 4 * ceil(features * ratio / 4), at least 4 (Spinlock). Raises `ConfigError` unless 0 < ratio <= 4."""
    if not 0 < ratio <= MAX_RATIO:
        raise ConfigError(f"compression ratio must be in (0, {MAX_RATIO:g}], is {ratio:g}")
    # Rounded first: 20 * 0.6 is 12.000000000000002 in binary and would cost four dimensions.
    return max(DIM_STEP, DIM_STEP * int(np.ceil(round(features * ratio / DIM_STEP, 9))))


def plan_capacity(config: CompressionConfig, categories: Sequence[Characteristics], training_rows: int) -> CapacityPlan:
    """Return the sizes that `config` gives these categories, learned from `training_rows` rows.

    Raises `ConfigError` as `allocate_ratios` does.
    """
    return size_ratios(config, allocate_ratios(config, categories), categories, training_rows)


def size_ratios(
    config: CompressionConfig, ratios: np.ndarray, categories: Sequence[Characteristics], training_rows: int
) -> CapacityPlan:
    """Return the sizes that ratios `[C, L]` buy.

    The uniform baseline has latent dims for the uniform ratios and the published codes. `capacity` says which of the
    two the ratios move; with `budget: matched` the total stays at most the baseline's, and as near as integers allow.
    """
    sizes = np.array([category.features for category in categories])
    max_codes = max(1, min(config.max_codes, training_rows // config.min_rows_per_code))
    dims = np.array([[latent_dim(n, ratio) for ratio in UNIFORM_RATIOS] for n in sizes])
    codes = np.minimum([published_codes(n) for n in sizes], max_codes)
    if np.array_equal(ratios, np.broadcast_to(UNIFORM_RATIOS, ratios.shape)):
        return CapacityPlan(ratios, dims, codes)
    matched = config.budget == "matched"
    if config.capacity in ("codes", "both"):
        wanted_bits = np.log2(codes) * ratios / UNIFORM_RATIOS
        codes = (
            match_codes(wanted_bits, float(np.log2(codes).sum()), max_codes)
            if matched
            else _round_codes(wanted_bits, max_codes)
        )
    if config.capacity in ("latent", "both"):
        wanted_dims = sizes[:, None] * ratios
        dims = (
            match_dims(wanted_dims, int(dims.sum()))
            if matched
            else np.array([[latent_dim(n, ratio) for ratio in row] for n, row in zip(sizes, ratios, strict=True)])
        )
    return CapacityPlan(ratios, dims, codes)


def _round_codes(wanted_bits: np.ndarray, max_codes: int) -> np.ndarray:
    return np.clip(np.rint(2.0 ** np.minimum(wanted_bits, 30)), 1, max_codes).astype(int)


def match_codes(wanted_bits: np.ndarray, budget: float, max_codes: int) -> np.ndarray:
    """Return codes `[C, L]` in proportion to `wanted_bits` with sum(log2 codes) <= `budget`, as near as integers go.

    Bits that `max_codes` cuts off a level go to the category's other levels, and from a category whose levels are all
    full to the other categories. Rounding follows largest remainder: the codebook farthest below its share gets the
    next code.
    """
    cap = np.log2(max_codes)
    of_category = _scale_to_budget(wanted_bits.sum(axis=1), budget, cap * wanted_bits.shape[1])
    share = np.stack([_scale_to_budget(row, bits, cap) for row, bits in zip(wanted_bits, of_category, strict=True)])
    codes = np.clip(np.floor(2.0**share + 1e-9), 1, max_codes).astype(int)
    left = budget - float(np.log2(codes).sum())
    while True:
        cost = np.log2((codes + 1) / codes)
        affordable = (codes < max_codes) & (cost <= left + 1e-9) & (wanted_bits > 0)
        if not affordable.any():
            return codes
        deficit = np.where(affordable, share - np.log2(codes), -np.inf)
        choice = np.unravel_index(int(deficit.argmax()), deficit.shape)
        left -= float(cost[choice])
        codes[choice] += 1


def _scale_to_budget(wanted: np.ndarray, budget: float, cap: float) -> np.ndarray:
    """Return min(wanted * s, cap) with the common factor s for which the sum is `budget`, by bisection."""
    low, high = 0.0, 1.0
    while np.minimum(wanted * high, cap).sum() < budget and high < 1e12:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if np.minimum(wanted * middle, cap).sum() < budget:
            low = middle
        else:
            high = middle
    return np.minimum(wanted * low, cap)


def match_dims(wanted_dims: np.ndarray, budget: int) -> np.ndarray:
    """Return latent dims `[C, L]`, multiples of 4 and at least 4, in proportion to `wanted_dims` with sum `budget`.

    `budget` is itself a sum of as many multiples of 4, so it is met exactly; rounding follows largest remainder.
    """
    share = _scale_to_total(wanted_dims, budget)
    dims = DIM_STEP * np.maximum(1, np.floor(share / DIM_STEP + 1e-9)).astype(int)
    while dims.sum() < budget:
        choice = np.unravel_index(int((share - dims).argmax()), dims.shape)
        dims[choice] += DIM_STEP
    return dims


def _scale_to_total(wanted: np.ndarray, budget: int) -> np.ndarray:
    """Return max(wanted * s, 4) with the common factor s for which the sum is `budget`, by bisection."""
    low, high = 0.0, budget / float(wanted.min())
    for _ in range(100):
        middle = (low + high) / 2
        if np.maximum(wanted * middle, DIM_STEP).sum() < budget:
            low = middle
        else:
            high = middle
    return np.maximum(wanted * low, DIM_STEP)
