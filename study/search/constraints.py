"""What a study minimizes, and the guards that a trial must satisfy. Pure functions of metrics.

The imbalance max FVU / min FVU is 1 as well when everything is equally bad; hence the guards, stated relative to the
uniform baseline of the same study. They are the sampler's constraints: at most 0 when kept, in relative units, because
a sampler adds up violations.
"""

from __future__ import annotations

from spinlock_dist.metrics.record import Metrics
from study.config import GuardsConfig

COUNT = {"single": 1, "pareto": 3}
"""How many of `results.analysis.pareto.objectives` a study minimizes: the first, or all."""


def guards(metrics: Metrics, baseline: Metrics, config: GuardsConfig) -> dict[str, float]:
    """By how much each guard is violated; at most 0 if it is satisfied. Every value is finite."""
    bits = abs(metrics.bits_per_sample / baseline.bits_per_sample - 1)
    return {
        "bits": bits - config.bits_tolerance,
        "fvu_worst": metrics.fvu_worst / baseline.fvu_worst - 1,
        "fvu_worst_limit": metrics.fvu_worst / config.fvu_worst_limit - 1,
        "fvu_mean": metrics.fvu_mean / (config.fvu_mean_ratio * baseline.fvu_mean) - 1,
        "utilization": config.utilization - metrics.utilization,
        "perplexity": config.perplexity_ratio - metrics.perplexity_ratio,
    }
