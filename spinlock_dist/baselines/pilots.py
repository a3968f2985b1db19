"""Allocation by measured error: codecs without a network, fitted and scored out of fold, tell what bits are worth.

A pilot fits the joint least-squares codec of one category to three quarters of the training rows and scores the fourth,
each quarter in its turn. It takes milliseconds, so that every category can be measured at several sizes, and it errs
alike for all of them: a network leaves less, by about as much everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from spinlock_dist.baselines.additive import AdditiveCodec, residual_codebooks
from spinlock_dist.baselines.joint_least_squares import alternate
from spinlock_dist.compression.capacity import (
    CapacityPlan,
    most_codes,
    plan_capacity,
    size_ratios,
    size_stages,
    stage_sizes,
)
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.compression.strategies.feedback import Point, equal_errors
from spinlock_dist.config import LEVELS, TrialConfig
from spinlock_dist.device import on_threads
from spinlock_dist.given_ratios import MAX_RATIO
from spinlock_dist.prepare import PreparedData
from spinlock_dist.seeding import derive_seed

FOLDS = 4
LEAST_FVU = 1e-6
"""What an error of zero counts as."""
TINY = 1e-30
ITERATIONS, ROUNDS = 3, 2
"""Of k-means, and of search and refit: a tenth of what the codec takes, for the same order of categories."""
ROWS_PER_CODE = 20
"""Training rows that a code has at least, unless it has fewer under uniform ratios: with 8 the worst category is as
good, and the imbalance a fifth higher."""
NEAR = 1.0
"""Bits by which a category may move and keep its number of codebooks."""
MOST_PLANS = 64
"""Plans that are remembered: small, and a fold of a trial each."""
ALIKE = float(np.log2(1.01))
"""Worst errors that differ by less, in log2, do not decide between plans."""
SURE = 0.03
"""Standard error, as a share of the FVU, that calls for no caution: light tails have 1 to 3 %, some a little more than
others, and by as many times `feedback.risk` their errors would end unequal."""
MOST_WARY = 2.0
"""Times its measured error that a category counts as at most: in a few rows with most of the squares, standard errors
say little, and the bits would be the others'."""
_PLANS: dict[str, CapacityPlan] = {}
WORTH = 0.01
"""By what share another codebook at the same bits has to lower the error to be taken."""


def plan_by_pilots(config: TrialConfig, data: PreparedData) -> CapacityPlan:
    """The plan of `measured_plan`, measured once for all trials of a process that differ in nothing it depends on.

    Trials of a study mostly differ in their training, and workers are kept from trial to trial.
    """
    given = config.model_dump_json(include={"seed": True, "compression": True, "quantizer": True})
    rows = hashlib.sha256(data.split.train.tobytes()).hexdigest()
    key = f"{data.fingerprint} {rows} {given}"
    if key not in _PLANS:
        _PLANS[key] = measured_plan(config, data)
        while len(_PLANS) > MOST_PLANS:
            del _PLANS[next(iter(_PLANS))]
    return _PLANS[key]


def measured_plan(config: TrialConfig, data: PreparedData) -> CapacityPlan:
    """The plan whose worst category, measured out of fold on the training rows, is best.

    From uniform bits on, every category is measured, bits are moved to where all would have the same error, and all are
    measured again, `feedback.rounds` times. Beside the bits the number of codebooks is chosen by what is measured. Of
    all plans measured the best is taken, the uniform one among them: what overshot, or does not help, is not.
    """
    settings, rows = config.compression, len(data.split.train)
    uniform = plan_capacity(settings.model_copy(update={"strategy": "uniform"}), data.characteristics, rows)
    pilots = _Pilots(config, data, uniform)
    spectra = [each.spectrum for each in data.characteristics]
    plans = [(uniform, pilots.errors(uniform))]
    bits, measured = uniform.bits.sum(axis=1), [list[Point]() for _ in spectra]
    for _ in range(settings.feedback.rounds + 1):
        plan = size_stages(settings, bits, pilots.stages(bits), data.characteristics, rows, pilots.max_codes)
        errors_C, bits = pilots.errors(plan), plan.bits.sum(axis=1)
        plans.append((plan, errors_C))
        for category, points in enumerate(measured):
            points.append((float(bits[category]), float(errors_C[category])))
        bits = equal_errors(measured, spectra, uniform.bits_per_sample, pilots.most_bits)
    best = _best(plans)
    if settings.capacity == "codes" and config.quantizer.kind != "fsq":
        return best
    # Latent dimensions move as the bits would: as their own bits, or, with learned codebooks, to no effect.
    factor = best.bits.sum(axis=1) / uniform.bits.sum(axis=1)
    ratios = np.minimum(np.outer(factor, UNIFORM_RATIOS), MAX_RATIO)
    return size_ratios(settings, ratios, data.characteristics, rows, config.quantizer)


def _best(plans: Sequence[tuple[CapacityPlan, np.ndarray]]) -> CapacityPlan:
    """The plan whose worst category has the least log2 error `[C]`; of those that are as good, the least on average.

    A category that no bits help is the worst under every plan: then the others decide.
    """
    least = min(errors_C.max() for _, errors_C in plans)
    as_good = [(errors_C.mean(), at) for at, (_, errors_C) in enumerate(plans) if errors_C.max() <= least + ALIKE]
    return plans[min(as_good)[1]][0]


class _Pilots:
    """Measures categories of the training rows of `data`. What was measured once is remembered."""

    def __init__(self, config: TrialConfig, data: PreparedData, uniform: CapacityPlan):
        self.config = config
        settings, train_ND = config.compression, data.values[data.split.train]
        self.names = [category.name for category in data.categories]
        self.rows = [np.ascontiguousarray(train_ND[:, category.columns]) for category in data.categories]
        order = np.random.default_rng(derive_seed(config.seed, "pilots")).permutation(len(train_ND))
        self.fold_N = order % FOLDS
        wanted = max(len(train_ND) // ROWS_PER_CODE, int(uniform.codes.max()))
        self.max_codes = min(most_codes(settings, len(train_ND)), wanted)
        self.most_stages = len(LEVELS) * settings.max_codebooks
        self.most_bits = self.most_stages * float(np.log2(self.max_codes))
        self.chosen: dict[int, tuple[float, int]] = {}
        self.known: list[dict[tuple[int, ...], float]] = [{} for _ in self.rows]

    def errors(self, plan: CapacityPlan) -> np.ndarray:
        """Log2 of the error `[C]` of every category with the codebooks of a plan."""
        sizes = [tuple(codes[codes > 1].tolist()) or (1,) for codes in plan.codes]
        on_threads(lambda index: self.error(index, sizes[index]), range(len(self.rows)))
        return np.array([self.error(index, each) for index, each in enumerate(sizes)])

    def stages(self, bits: np.ndarray) -> np.ndarray:
        """The number of codebooks `[C]` that each category's bits are best shared among.

        As few as hold them, and one more as long as that is measured to help: of heavy tails many codes learn outliers
        by heart, few in several codebooks combine.
        """
        found_C = np.ones(len(bits), dtype=int)

        def climb(index: int) -> None:
            fewest = min(self.most_stages, int(np.ceil(bits[index] / np.log2(self.max_codes) - 1e-9)))
            before, stages = self.chosen.get(index, (np.inf, 0))
            if abs(bits[index] - before) <= NEAR and stages >= fewest:
                found_C[index] = stages
                return

            def error_of(stages: int) -> float:
                return self.error(index, stage_sizes(bits[index], stages, self.max_codes))

            stages, error = fewest, error_of(fewest)
            while stages < self.most_stages and (other := error_of(stages + 1)) < error + np.log2(1 - WORTH):
                stages, error = stages + 1, other
            found_C[index] = stages
            self.chosen[index] = float(bits[index]), stages

        on_threads(climb, range(len(bits)))
        return found_C

    def error(self, category: int, sizes: tuple[int, ...]) -> float:
        """Log2 of the error of a category with codebooks of these sizes.

        It is its upper end: FVU out of fold, and `feedback.risk` standard errors as far as they exceed `SURE`, which
        heavy tails have most of, up to `MOST_WARY` times the FVU.
        """
        known = self.known[category]
        if sizes not in known:
            error_N, total_N = self._measured(category, sizes)
            error, total = max(error_N.sum(), TINY), max(total_N.sum(), TINY)
            standard_error = np.sqrt(np.square(error_N / error - total_N / total).sum())
            unsure = max(standard_error - SURE, 0.0)
            wary = min(1 + self.config.compression.feedback.risk * unsure, MOST_WARY)
            upper = max(error / total, LEAST_FVU) * wary
            known[sizes] = float(np.log2(upper))
        return known[sizes]

    def _measured(self, category: int, sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Squared error of each row `[N]` by a codec that did not see it, and about the mean of those it saw."""
        x_NF, beam = self.rows[category], self.config.quantizer.beam
        error_N, total_N = np.empty(len(x_NF)), np.empty(len(x_NF))
        for fold in range(FOLDS):
            held_out = self.fold_N == fold
            seen_NF, fresh_NF = x_NF[~held_out], x_NF[held_out]
            generator = torch.Generator().manual_seed(
                derive_seed(self.config.seed, "pilot", self.names[category], fold)
            )
            start = residual_codebooks(seen_NF, sizes, ITERATIONS, generator)
            codec = AdditiveCodec(alternate(start, seen_NF, beam, ROUNDS), beam)
            left_NF = fresh_NF - codec.decode(codec.encode(fresh_NF))
            error_N[held_out] = np.square(left_NF, dtype=np.float64).sum(axis=1)
            total_N[held_out] = np.square(fresh_NF - seen_NF.mean(axis=0), dtype=np.float64).sum(axis=1)
        return error_N, total_N
