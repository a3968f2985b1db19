"""What a study found, in sentences that claim no more than was shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from results.trial_record import TrialRecord, best_record
from spinlock_dist.metrics.record import Metrics


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Best config against baseline on the test rows, paired by training seed."""

    ratios: tuple[float, ...]
    """Imbalance of the best config / imbalance of the baseline, per pair."""
    best: tuple[Metrics, ...]
    baseline: tuple[Metrics, ...]

    @property
    def ratio(self) -> float:
        """Geometric mean of the ratios."""
        return math.exp(sum(map(math.log, self.ratios)) / len(self.ratios))

    @property
    def wins(self) -> int:
        """Pairs in which the best config has the lower imbalance."""
        return sum(ratio < 1 for ratio in self.ratios)


def compare(finals: Sequence[TrialRecord]) -> Comparison | None:
    """Pair the finals by replicate; None without any pair that both completed."""
    baseline = {record.number: record.test for record in finals if record.arm == "baseline"}
    best = {record.number: record.test for record in finals if record.arm != "baseline"}
    pairs = [(mine, base) for number, mine in sorted(best.items()) if mine and (base := baseline.get(number))]
    if not pairs:
        return None
    return Comparison(
        ratios=tuple(mine.imbalance / base.imbalance for mine, base in pairs),
        best=tuple(mine for mine, _ in pairs),
        baseline=tuple(base for _, base in pairs),
    )


def conclude(baseline: TrialRecord, search: Sequence[TrialRecord], finals: Sequence[TrialRecord]) -> str:
    """Return what the study shows: whether a trial beat the uniform baseline, with its guards, and on which rows."""
    assert baseline.metrics is not None
    best = best_record(search)
    if best is None or best.metrics is None:
        return f"No feasible trial beat the uniform baseline: none kept every guard.{_nearest_miss(search)}"
    found = f"{best.metrics.imbalance:.2f}x against {baseline.metrics.imbalance:.2f}x"
    if best.metrics.imbalance >= baseline.metrics.imbalance:
        return f"No feasible trial beat the uniform baseline: the best, trial {best.number}, has imbalance {found}."
    validation = f"Trial {best.number} beats the uniform baseline on the validation rows ({found}, every guard kept)"
    return f"{validation}, {_on_test_rows(finals)}"


def _on_test_rows(finals: Sequence[TrialRecord]) -> str:
    shown = compare(finals)
    if shown is None:
        return "and was not compared with it on the test rows."
    pairs = len(shown.ratios)
    worst = _mean([metrics.fvu_worst for metrics in shown.best]), _mean([m.fvu_worst for m in shown.baseline])
    mean = _mean([metrics.fvu_mean for metrics in shown.best]), _mean([m.fvu_mean for m in shown.baseline])
    if shown.wins == pairs and worst[0] <= worst[1]:
        held = "and on the test rows too"
    elif shown.ratio < 1 and shown.wins > 0:
        held = "but the test rows do not settle it"
    else:
        held = "but not on the test rows, where the gain is lost"
    return (
        f"{held}: imbalance lower in {shown.wins} of {pairs} training seeds, x{shown.ratio:.2f} on average; "
        f"worst category {worst[0]:.3f} against {worst[1]:.3f}, mean {mean[0]:.3f} against {mean[1]:.3f}. "
        "Other splits of the data were not tried."
    )


def _nearest_miss(search: Sequence[TrialRecord]) -> str:
    scored = [record for record in search if record.state == "complete" and record.metrics is not None]
    if not scored:
        return ""
    nearest = min(scored, key=lambda record: max(record.guards.values()))
    guard, excess = max(nearest.guards.items(), key=lambda item: item[1])
    assert nearest.metrics is not None
    return f" Nearest: trial {nearest.number}, imbalance {nearest.metrics.imbalance:.2f}x, {guard} off by {excess:.1%}."


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
