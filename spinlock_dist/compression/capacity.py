"""What a ratio buys: latent dimensions, codes and bits, under a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.ratios import allocate_ratios
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.compression.uniform_baseline import published_codes
from spinlock_dist.config import LEVELS, CompressionConfig, QuantizerConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.given_ratios import MAX_RATIO

DIM_STEP = 4
_CODEBOOKS = QuantizerConfig()


@dataclass(frozen=True)
class CapacityPlan:
    """Sizes of every quantizer: `ratios` and `dims` are `[C, L]`; `codes` are `[C, L, S]`, the S codebooks of a level.

    A level has one codebook as long as that can hold its codes; further ones of one code are none at all. A level
    whose first codebook has one code is switched off.
    """

    ratios: np.ndarray
    dims: np.ndarray
    codes: np.ndarray

    @property
    def bits(self) -> np.ndarray:
        """Bits per sample of each level `[C, L]`: log2 of its codes, summed over its codebooks."""
        return np.log2(self.codes).sum(axis=2)

    @property
    def bits_per_sample(self) -> float:
        """Bits per sample of all quantizers together."""
        return float(self.bits.sum())

    def codebooks(self) -> Iterator[tuple[tuple[int, int, int], str, int]]:
        """Yield place in `codes`, name (`L0`, then `L0.2`) and size of every codebook that is switched on."""
        for (category, level, book), codes in np.ndenumerate(self.codes):
            if codes > 1:
                yield (category, level, book), LEVELS[level] + (f".{book + 1}" if book else ""), int(codes)

    def codebook_sizes(self, category: int) -> np.ndarray:
        """The codes of a category's codebooks, coarse to fine; 1 for a level that is switched off."""
        sizes_LS = self.codes[category]
        return sizes_LS[(sizes_LS > 1) | (np.arange(sizes_LS.shape[1]) == 0)]

    def sizes_in_words(self, category: int) -> list[str]:
        """The codes of each level of a category: `64`, or `64x60` where there are several codebooks."""
        return ["x".join(str(codes) for codes in (row[0], *row[1:][row[1:] > 1])) for row in self.codes[category]]


def latent_dim(features: int, ratio: float) -> int:
    """4 * ceil(features * ratio / 4), at least 4 (Spinlock). Raises `ConfigError` unless 0 < ratio <= 4."""
    if not 0 < ratio <= MAX_RATIO:
        raise ConfigError(f"compression ratio must be in (0, {MAX_RATIO:g}], is {ratio:g}")
    # Rounded first: 20 * 0.6 is 12.000000000000002 in binary and would cost four dimensions.
    return max(DIM_STEP, DIM_STEP * int(np.ceil(round(features * ratio / DIM_STEP, 9))))


def plan_capacity(
    config: CompressionConfig,
    categories: Sequence[Characteristics],
    training_rows: int,
    quantizer: QuantizerConfig = _CODEBOOKS,
) -> CapacityPlan:
    """The sizes that `config` gives these categories, learned from `training_rows` rows.

    Raises `ConfigError` as `allocate_ratios` does.
    """
    return size_ratios(config, allocate_ratios(config, categories), categories, training_rows, quantizer)


def size_ratios(
    config: CompressionConfig,
    ratios: np.ndarray,
    categories: Sequence[Characteristics],
    training_rows: int,
    quantizer: QuantizerConfig = _CODEBOOKS,
) -> CapacityPlan:
    """The sizes that ratios `[C, L]` buy.

    The uniform baseline has latent dims for the uniform ratios and the published codes. `capacity` says which of the
    two the ratios move; its total stays at most the baseline's, and as near as integers allow. Finite scalar
    quantization has no codebooks: its latent dims are its bits, whatever `capacity` says.
    """
    sizes = np.array([category.features for category in categories])
    max_codes = most_codes(config, training_rows)
    dims, codes = _uniform(categories, max_codes)
    wanted_bits, budget = np.log2(codes) * ratios / UNIFORM_RATIOS, float(np.log2(codes).sum())
    if quantizer.kind == "fsq":
        return _scalar_plan(ratios, wanted_bits, budget, max_codes, quantizer.fsq_levels)
    if np.array_equal(ratios, np.broadcast_to(UNIFORM_RATIOS, ratios.shape)):
        return CapacityPlan(ratios, dims, codes[..., None])
    if config.capacity == "latent":
        return CapacityPlan(ratios, match_dims(sizes[:, None] * ratios, int(dims.sum())), codes[..., None])
    return CapacityPlan(ratios, dims, match_codes(wanted_bits, budget, max_codes, config.max_codebooks))


def size_stages(
    config: CompressionConfig,
    bits: np.ndarray,
    stages: np.ndarray,
    categories: Sequence[Characteristics],
    training_rows: int,
    max_codes: int,
) -> CapacityPlan:
    """The sizes where category c has `stages[c]` codebooks that share its `bits[c]` equally, as far as they can.

    The first three are those of L0, L1 and L2, the fourth is a second one of L0, and so on; levels without one are
    switched off. No codebook has more than `max_codes`. The total is at most that of the uniform baseline, and as near
    as integers allow.
    """
    dims, codes = _uniform(categories, most_codes(config, training_rows))
    uniform_bits = np.log2(codes).sum(axis=1)
    books = -(-int(stages.max()) // len(LEVELS))
    place_LS = np.arange(books * len(LEVELS)).reshape(books, -1).T
    share = np.where(place_LS < stages[:, None, None], (bits / stages)[:, None, None], 0.0)
    share = np.minimum(share, np.log2(max_codes))
    factor = np.minimum(bits / np.maximum(uniform_bits, 1e-9), MAX_RATIO / max(UNIFORM_RATIOS))
    return CapacityPlan(np.outer(factor, UNIFORM_RATIOS), dims, _round(share, float(uniform_bits.sum()), max_codes))


def stage_sizes(bits: float, stages: int, max_codes: int) -> tuple[int, ...]:
    """Codes of `stages` codebooks that come to `bits` together, as near as integers allow, each near its share."""
    share = np.full(stages, min(bits / stages, np.log2(max_codes)))
    return tuple(int(codes) for codes in _round_category(share, max_codes) if codes > 1) or (1,)


def most_codes(config: CompressionConfig, training_rows: int) -> int:
    """Codes that a codebook may have."""
    return max(1, min(config.max_codes, training_rows // config.min_rows_per_code))


def _uniform(categories: Sequence[Characteristics], max_codes: int) -> tuple[np.ndarray, np.ndarray]:
    """Latent dims and codes `[C, L]` of the uniform baseline."""
    sizes = [category.features for category in categories]
    dims = np.array([[latent_dim(n, ratio) for ratio in UNIFORM_RATIOS] for n in sizes])
    return dims, np.minimum([published_codes(n) for n in sizes], max_codes)


def _scalar_plan(
    ratios: np.ndarray, wanted_bits: np.ndarray, budget: float, max_codes: int, levels: int
) -> CapacityPlan:
    """Latent dims of `levels` values each, log2 `levels` bits apiece."""
    unit = np.log2(levels)
    cap = int(np.log2(max_codes) / unit + 1e-9)
    share = _within_caps(wanted_bits, budget, cap * unit, 1)
    dims = np.clip(np.floor(share / unit + 1e-9), 0, cap).astype(int)
    for _ in range(int(min(budget, share.sum()) / unit + 1e-9) - int(dims.sum())):
        affordable = np.where(dims < cap, share / unit - dims, -np.inf)
        dims[np.unravel_index(int(affordable.argmax()), dims.shape)] += 1
    # A level that is switched off still has a latent, with one code.
    return CapacityPlan(ratios, np.maximum(1, dims), (levels**dims)[..., None])


def match_codes(wanted_bits: np.ndarray, budget: float, max_codes: int, max_codebooks: int = 1) -> np.ndarray:
    """Codes `[C, L, S]` in proportion to `wanted_bits` `[C, L]`, their log2 summing to `budget` or just below.

    Bits that `max_codes` cuts off a level go to the category's other levels; when all are full, levels get further
    codebooks, up to `max_codebooks`, and what a category still cannot hold goes to the others. Rounding keeps to the
    bits of each category first and to those of its levels second. What the categories are then off the budget together
    is made up for code by code, where it adds least to the squares of their relative errors: mostly in the largest.
    """
    within_caps = _within_caps(wanted_bits, budget, np.log2(max_codes), max_codebooks)
    return _round(_split_levels(within_caps, max_codes, max_codebooks), budget, max_codes)


def _round(share: np.ndarray, budget: float, max_codes: int) -> np.ndarray:
    """Codes `[C, L, S]` whose bits are near `share`, category by category first; see `match_codes`."""
    codes = np.stack([_round_category(row.ravel(), max_codes).reshape(row.shape) for row in share])
    # Rounded category by category the total is near the budget, above or below. Above it codes are taken away until it
    # fits; then they are added while any fits. The second loop ends, since every code costs bits and the budget is
    # finite; what is left at its end is less than the cheapest further code.
    while np.log2(codes).sum() > budget + 1e-9:
        _change_one(codes, share, -1, codes > 1)
    while True:
        left = budget - np.log2(codes).sum()
        affordable = (codes < max_codes) & (np.log2((codes + 1) / codes) <= left + 1e-9) & (share > 0)
        if not affordable.any():
            return _without_unused(codes)
        _change_one(codes, share, 1, affordable)


def _round_category(share_K: np.ndarray, max_codes: int) -> np.ndarray:
    """The codes `[K]` of a category's codebooks that come to its bits `share_K`, each near its own.

    From the nearest codes on, one codebook or two against each other change by a code as long as that helps. A bit
    off in all counts as much as ten between codebooks: the error of a category follows from its bits together.
    """
    # Why not the nearest codes alone: 2.6 codes round to 3, which is 0.2 bits too many, and over the codebooks of a
    # category such errors add up; half a bit is a quarter of the error of a category of three components. So from the
    # nearest codes on, single codes and pairs against each other are tried, and the best is taken until none helps.
    # Every change lowers the misfit and there are finitely many codes, so that it ends.
    single = np.eye(len(share_K), dtype=int)
    changes_MK = np.concatenate([single, -single, (single[:, None] - single).reshape(-1, len(share_K))])
    changes_MK = changes_MK[(changes_MK[:, share_K == 0] == 0).all(axis=1)]

    def misfit(codes_MK: np.ndarray) -> np.ndarray:
        off = np.log2(codes_MK) - share_K
        return off.sum(axis=1) ** 2 + (off**2).sum(axis=1) / 100

    codes_K = np.clip(np.rint(2.0**share_K), 1, max_codes).astype(int)
    while True:
        candidates_MK = np.clip(codes_K + changes_MK, 1, max_codes)
        misfits = misfit(candidates_MK)
        best = int(misfits.argmin())
        if misfits[best] >= misfit(codes_K[None])[0] - 1e-12:
            return codes_K
        codes_K = candidates_MK[best]


def _change_one(codes: np.ndarray, share: np.ndarray, change: int, allowed: np.ndarray) -> None:
    """Change one `allowed` codebook of `codes` `[C, L, S]` by a code, in place: that which by the bit adds least to the
    sum of squared relative errors of the categories' bits against `share`."""
    # With e_c = (bits of c - wanted_c) / wanted_c, a change of b bits turns e_c^2 into (e_c +- b / wanted_c)^2: it adds
    # b * (b - 2 * change * missing_c) / wanted_c^2. Per bit of change that is the expression below.
    wanted = np.maximum(share.sum(axis=(1, 2), keepdims=True), 1e-9)
    missing = wanted - np.log2(codes).sum(axis=(1, 2), keepdims=True)
    bits = np.abs(np.log2(np.maximum(codes + change, 1) / codes))
    added = np.where(allowed, (bits - 2 * change * missing) / wanted**2, np.inf)
    codes[np.unravel_index(int(added.argmin()), codes.shape)] += change


def _within_caps(wanted_bits: np.ndarray, budget: float, cap: float, max_codebooks: int) -> np.ndarray:
    """Bits `[C, L]` in proportion to `wanted_bits` that sum to `budget`, no codebook holding more than `cap`."""
    levels, wanted_C = wanted_bits.shape[1], wanted_bits.sum(axis=1)
    of_category = _scaled_to(budget, lambda scale: np.minimum(wanted_C * scale, cap * levels * max_codebooks))
    books = np.maximum(1, np.ceil(of_category / (cap * levels) - 1e-9)) if cap > 0 else np.ones(len(of_category))

    def levels_of(row_L: np.ndarray, bits: float, most: float) -> np.ndarray:
        return _scaled_to(bits, lambda scale: np.minimum(row_L * scale, most))

    return np.stack([levels_of(*each) for each in zip(wanted_bits, of_category, cap * books, strict=True)])


def _split_levels(bits: np.ndarray, max_codes: int, max_codebooks: int) -> np.ndarray:
    """Share each level's bits `[C, L]` equally among as few codebooks as hold them: `[C, L, S]`, 0 where none is."""
    needed = np.maximum(1, np.ceil(bits / max(np.log2(max_codes), 1e-9) - 1e-9))[..., None]
    return np.where(np.arange(max_codebooks) < needed, bits[..., None] / needed, 0.0)


def _without_unused(codes: np.ndarray) -> np.ndarray:
    """Drop codebooks `[C, L, S]` that no level has. Within a level those of one code, which are none, come last."""
    codes = np.take_along_axis(codes, np.argsort(codes == 1, axis=2, kind="stable"), axis=2)
    used_S = np.flatnonzero((codes > 1).any(axis=(0, 1)))
    return codes[..., : int(used_S.max(initial=0)) + 1]


def _scaled_to(total: float, shares_at: Callable[[float], np.ndarray]) -> np.ndarray:
    """The shares whose sum is `total`, by bisection over their common scale; `shares_at` must not fall with it.

    Where caps keep the sum below `total` whatever the scale, the largest shares there are.
    """
    low, high = 0.0, 1.0
    while shares_at(high).sum() < total and high < 1e12:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if shares_at(middle).sum() < total:
            low = middle
        else:
            high = middle
    return shares_at(low)


def match_dims(wanted_dims: np.ndarray, budget: int) -> np.ndarray:
    """Latent dims `[C, L]`, multiples of 4 and at least 4, in proportion to `wanted_dims` with sum `budget`.

    `budget` is itself a sum of as many multiples of 4, so it is met exactly; rounding follows largest remainder.
    """
    share = _scaled_to(budget, lambda scale: np.maximum(wanted_dims * scale, DIM_STEP))
    dims = DIM_STEP * np.maximum(1, np.floor(share / DIM_STEP + 1e-9)).astype(int)
    while dims.sum() < budget:
        choice = np.unravel_index(int((share - dims).argmax()), dims.shape)
        dims[choice] += DIM_STEP
    return dims
