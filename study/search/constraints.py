"""What a study minimizes, and the guards that a trial must satisfy. Pure functions of metrics.

The imbalance max FVU / min FVU is 1 as well when everything is equally bad; hence the guards, stated relative to the
uniform baseline of the same study. They are the sampler's constraints: at most 0 when kept, in relative units, because
a sampler adds up violations.

Errors are measured on so many rows with one seed. A guard on them excludes a trial only where it is shown to be broken;
what may be broken costs the trial a penalty that grows from nothing, and leaves the decision to the finals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

import numpy as np

from results.records.trial_record import TrialRecord
from spinlock_dist.metrics.record import Metrics
from study.config import GuardsConfig

COUNT = {"single": 1, "pareto": 3}
"""How many of `results.analysis.pareto.objectives` a study minimizes: the first, or all."""


SHOWN = 1.645
"""Standard errors beyond its limit at which a guard is shown to be broken: one-sided 95%."""
OF_BASELINE = 0.6
"""Share of the baseline's use of codes that is asked for where the baseline itself is below the limit."""
LEAST_SEED_SPREAD = 0.02
"""Standard deviation of a log error over seeds that is reckoned with at least: two seeds may agree by accident."""


@dataclass(frozen=True)
class Baseline:
    """What trials are compared with: the uniform baseline's first training, and how far its seeds lie apart."""

    metrics: Metrics
    others: tuple[Metrics, ...] = ()
    """Of its further seeds."""

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> Baseline:
        """The baseline of its records, the first of which has the trials' seed."""
        first, *others = [record.metrics for record in records if record.metrics is not None]
        return cls(first, tuple(others))

    def log_ratio(self, metrics: Metrics, name: str) -> tuple[float, float]:
        """The log of a trial's figure over the baseline's mean, and its standard error.

        Both were measured on the same rows, so the variance over rows is that of the difference, resample by resample.
        A trial has one seed; the variance over seeds is the baseline's own.
        """
        seeds = [math.log(max(each.estimate(name), 1e-12)) for each in (self.metrics, *self.others)]
        ratio = math.log(max(metrics.estimate(name), 1e-12)) - sum(seeds) / len(seeds)
        spread = max(stdev(seeds) if len(seeds) > 1 else 0.0, LEAST_SEED_SPREAD)
        ours, base = metrics.resampled.get(name), self.metrics.resampled.get(name)
        rows = float(np.var(np.subtract(ours, base), ddof=1)) if ours and base and len(ours) == len(base) else 0.0
        return ratio, math.sqrt(rows + spread**2 * (1 + 1 / len(seeds)))


def guards(metrics: Metrics, baseline: Baseline, config: GuardsConfig) -> dict[str, float]:
    """By how much each guard is violated at least; at most 0 if that is not shown. Every value is finite."""
    bits = abs(metrics.bits_per_sample / baseline.metrics.bits_per_sample - 1)
    worst = metrics.estimates["fvu_worst"].low if metrics.estimates else metrics.fvu_worst
    return {
        "bits": bits - config.bits_tolerance,
        "fvu_worst": _shown_excess(*baseline.log_ratio(metrics, "fvu_worst"), 1.0),
        "fvu_worst_limit": worst / config.fvu_worst_limit - 1,
        "fvu_mean": _shown_excess(*baseline.log_ratio(metrics, "fvu_mean"), config.fvu_mean_ratio),
        "utilization": _asked(config.utilization, baseline.metrics.utilization) - metrics.utilization,
        "perplexity": _asked(config.perplexity_ratio, baseline.metrics.perplexity_ratio) - metrics.perplexity_ratio,
    }


def _asked(limit: float, baseline: float) -> float:
    """The limit of a guard on codebooks. Sparse features use few codes whatever the ratios: what the baseline itself
    does not reach is not asked of a trial."""
    return limit if baseline >= limit else OF_BASELINE * baseline


def _shown_excess(log_ratio: float, error: float, limit: float) -> float:
    return math.exp(log_ratio - SHOWN * error) / limit - 1


def penalty(metrics: Metrics, baseline: Baseline, config: GuardsConfig) -> float:
    """What is added to a trial's log10 imbalance: by how many powers of ten its errors exceed the guards, as estimated.

    It is 0 where they are kept and grows from there, so that a sampler is led back instead of meeting a cliff whose
    place is uncertain.
    """
    limits = {"fvu_worst": 1.0, "fvu_mean": config.fvu_mean_ratio}
    excess = [baseline.log_ratio(metrics, name)[0] - math.log(limit) for name, limit in limits.items()]
    return sum(max(0.0, each) for each in excess) / math.log(10)
